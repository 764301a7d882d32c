"""Files of weights: read without running code, whatever the name and form they have.

Only tensors are read (`torch.load(weights_only=True)` or safetensors); a pickle that wants to call
anything is refused before it does. Let through are `argparse.Namespace`, in which MAE's training
script keeps its arguments, and NumPy's numbers and arrays, which people keep beside the weights:
they only hold values.
"""

from __future__ import annotations

import argparse
import codecs
import logging
import pickle
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import torch
from safetensors.torch import load_file

from tttlib.models import file_kinds, key_names
from tttlib.runtime.files import sha256

logger = logging.getLogger(__name__)

# How pickles name the makers of NumPy's scalars and arrays; NumPy 1 called the module numpy.core.
_NUMPY = (
    (np.float64(0).__reduce__()[0], "multiarray.scalar"),
    (np.zeros(1).__reduce__()[0], "multiarray._reconstruct"),
)
_HARMLESS: list[Any] = [
    argparse.Namespace,
    np.ndarray,
    np.dtype,
    *{type(np.dtype(code)) for code in "?bBhHiIlLqQefdgSU"},
    *((make, f"numpy.{core}.{name}") for make, name in _NUMPY for core in ("core", "_core")),
    (codecs.encode, "_codecs.encode"),  # how older pickles write bytes
]


class CheckpointError(ValueError):
    """A checkpoint that cannot be what its name or card says."""


def read(path: Path) -> Any:
    """Return the content of a safetensors or PyTorch file, on the CPU; nothing is executed.

    The first bytes say which of the two a file is, not its name.

    Raises
    ------
    FileNotFoundError
        For a missing file.
    CheckpointError
        For a file that is neither, is not complete, or asks for more than tensors and numbers.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}; check the path or fetch the file")
    try:
        with path.open("rb") as file:
            start = file.read(64)
        if start[8:9] == b"{":
            return load_file(path)
        if why := file_kinds.unusable(path, start):
            raise CheckpointError(f"{path} {why}")
        with (
            path.open("rb") as file,  # by its path torch.load would go by the suffix
            torch.serialization.safe_globals(_HARMLESS),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")  # about files that are refused below
            return torch.load(file, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except safetensors.SafetensorError as error:
        raise CheckpointError(
            f"{path} is no complete safetensors file ({error}); fetch or train it again"
        ) from error
    except pickle.UnpicklingError as error:
        asked = re.search(r"(?:GLOBAL|class|type) ([\w.]*\.[\w.]+)", str(error))
        if asked is None and start[:1] != b"\x80":  # no pickle at all
            raise CheckpointError(file_kinds.incomplete(path)) from error
        raise CheckpointError(
            f"{path} is refused: it is a pickle that asks for {asked[1] if asked else 'more'} "
            "besides tensors, and such a file may run anything (nothing was run). Ask its "
            "publisher for the tensors alone, or save `model.state_dict()` where you trust it"
        ) from error
    except MemoryError:
        raise
    except Exception as error:  # whatever a file of another kind provokes in the reader
        raise CheckpointError(file_kinds.incomplete(path)) from error


def tensors(path: Path, average: bool | None = None) -> key_names.Weights:
    """Return the state dict of a file in float32, under keys without container and prefixes.

    A choice between raw weights and their moving average is logged, see `load`.

    Raises
    ------
    CheckpointError
        As `read` does, and for a file that holds no state dict or not the one asked for.
    """
    content = read(path)
    try:
        state, kind = key_names.weights(content, average)
    except ValueError as error:
        raise CheckpointError(
            f"{path} {error}. Give a state dict, bare or under "
            f"{' or '.join(map(repr, key_names.CONTAINERS))}"
        ) from error
    if kind:
        logger.warning(
            "%s: loaded the %s weights; average=True or False chooses where a file has both",
            path,
            kind,
        )
    state = {k: v.float() if v.is_floating_point() else v for k, v in state.items()}
    return key_names.Weights(state, kind)


def weights_hash(*paths: Path) -> str:
    """Return 16 hex digits of the files' sha256: what result rows are traced to."""
    return sha256(*paths)[:16]
