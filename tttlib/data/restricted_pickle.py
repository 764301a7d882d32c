"""Pickles that hold nothing but dicts, lists, strings, numbers and uint8 arrays.

The CIFAR files were pickled by Python 2. Unpickling can run any code, so no name that a pickle asks
for is looked up: the three that an array needs get stand-ins from here, every other is refused.
Nothing of numpy's own unpickling runs either; it trusts the file with memory layouts.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from tttlib.runtime.errors import DamagedDataError, unreadable


def read(path: Path, remedy: str) -> dict[bytes, Any]:
    """Return the dict in the file, its strings as bytes; `remedy` ends the messages.

    Raises DamagedDataError for a file that cannot be read, is cut or asks for anything else.
    """
    try:
        with path.open("rb") as stream:
            content = _Unpickler(stream, encoding="bytes").load()
    except DamagedDataError as error:
        raise DamagedDataError(f"{path} {error}, so it was not read; {remedy}") from error
    except FileNotFoundError as error:
        raise DamagedDataError(f"{path} is missing; {remedy}") from error
    except OSError as error:
        raise unreadable(path, error) from error
    except Exception as error:  # arbitrary bytes fail in arbitrary ways
        raise DamagedDataError(f"{path} is truncated or no pickle ({error}); {remedy}") from error
    if not isinstance(content, dict):
        raise DamagedDataError(f"{path} holds a {type(content).__name__}, not a dict; {remedy}")
    return {key: v.array if isinstance(v, _Array) else v for key, v in content.items()}


class _Type:
    """Stand-in for np.dtype("u1"), the only one admitted."""

    def __init__(self, code: object, *flags: object) -> None:
        if code not in ("u1", b"u1"):
            raise DamagedDataError(f"holds an array of type {code!r}, not uint8")

    def __setstate__(self, state: object) -> None:
        """Ignore byte order and alignment, which bytes do not have."""


class _Array:
    """Stand-in for an array that is being read; its `array` arrives with the state."""

    array: np.ndarray = np.empty(0, np.uint8)

    def __init__(self, *ignored: object) -> None:
        pass

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        shape, _, column_major, content = state[-4:]  # a version came before from numpy 1.0 on
        flat = np.frombuffer(content, np.uint8)
        self.array = flat.reshape(shape, order="F" if column_major else "C")


_STAND_INS = {
    ("numpy", "dtype"): _Type,
    ("numpy", "ndarray"): _Array,
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> type:
        if (module, name) not in _STAND_INS:
            raise DamagedDataError(f"asks for {module}.{name}, which no dataset needs")
        return _STAND_INS[module, name]

    def persistent_load(self, pid: object) -> object:
        raise DamagedDataError("refers to objects outside the file")
