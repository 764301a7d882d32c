"""Which data and weights a unit uses, told from its parameters, and their fingerprints.

Parameters called `dataset` with the splits `split`, `…_split` (empty ones count for nothing), the
folder `root` and the options `options` and `preprocess` of the loader name data; `model`, `models`,
`…_model`, `…_models` and `head` name weights: bundled ones, or files.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tttlib.runtime.files import sha256
from tttlib.runtime.paths import WEIGHTS, released, weights_file

if TYPE_CHECKING:
    from tttlib.data import ImageSet

_BUNDLED = Path(__file__).resolve().parents[1] / "weights"


def uses(parameters: Mapping[str, Any]) -> dict[str, str]:
    """Return the fingerprints of all that a unit uses, by "data NAME SPLIT" or "weights NAME".

    Raises
    ------
    FileNotFoundError
        For weights that are neither bundled nor a file. Besides, what `data.load` raises for data
        that are unknown, missing or damaged.
    ValueError
        For more images than there are.
    """
    fingerprints = {}
    dataset = parameters.get("dataset")
    if isinstance(dataset, str) and dataset:
        named = [v for k, v in parameters.items() if k == "split" or k.endswith("_split")]
        for split in dict.fromkeys(v for v in named if isinstance(v, str) and v):
            options = dict(parameters.get("options") or {})
            if parameters.get("preprocess"):
                options["preprocess"] = parameters["preprocess"]
            images_ = images(dataset, split, parameters.get("root") or "", options)
            name = " ".join(["data", dataset, split, *([_text(options)] if options else [])])
            fingerprints[name] = images_.fingerprint
            n = parameters.get("n_images")  # refused before anything runs
            if isinstance(n, int) and n > len(images_) and split == parameters.get("split"):
                has = f"{dataset!r} split {split!r} has {len(images_)}"
                raise ValueError(f"n_images is {n}, but {has}")
    for name in _names(parameters):
        path = _BUNDLED / f"{name}.safetensors"
        path = path if path.is_file() else weights_file(name)
        if not path.is_file():
            known = ", ".join(sorted(p.stem for p in _BUNDLED.glob("*.safetensors")))
            raise FileNotFoundError(f"no weights {name!r}: no such file, and bundled are {known}")
        state = path.stat()
        fingerprints[f"weights {path.stem}"] = _digest(path, state.st_mtime_ns, state.st_size)
    return fingerprints


def signature(parameters: Mapping[str, Any]) -> str:
    """Return a text that is equal for units that use the same things."""
    named = ("dataset", "root", "options", "preprocess", "n_images", "split")
    kept = [n for n in parameters if n in named or n.endswith("_split") or WEIGHTS.fullmatch(n)]
    return json.dumps({name: parameters[name] for name in kept}, sort_keys=True)


def difference(before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """Name the first thing whose fingerprint differs, in words; empty when none does."""
    for name in before:
        if after.get(name, before[name]) != before[name]:
            return f"{name} (fingerprint {before[name]} before, {after[name]} now)"
    return ""


def images(
    dataset: str, split: str, root: str = "", options: Mapping[str, Any] | None = None
) -> ImageSet:
    """Load a dataset (`data.load`), once in a process."""
    return _images(dataset, split, root, _text(options))


@functools.lru_cache(maxsize=4)
def _images(dataset: str, split: str, root: str, options: str) -> ImageSet:
    from tttlib import data

    return data.load(dataset, split, root or None, **json.loads(options))


def forget() -> None:
    """Look at the files again."""
    _images.cache_clear()


def _text(options: Mapping[str, Any] | None) -> str:
    return json.dumps(dict(options or {}), sort_keys=True)


def _names(parameters: Mapping[str, Any]) -> Iterable[str]:
    """Return each name of weights, or of their files, once."""
    named = [v for k, v in parameters.items() if WEIGHTS.fullmatch(k)]
    flat = [n for v in named for n in (v if isinstance(v, list | tuple) else [v])]
    texts = [n for n in flat if isinstance(n, str) and n]
    # "PRESET:FILE+HEAD" has two files; another name stands for itself
    return dict.fromkeys(f for n in texts for f in (released(n) or ("", n))[1:] if f)


@functools.lru_cache(maxsize=64)
def _digest(path: Path, changed: int, size: int) -> str:
    """Return 16 hex digits of the file's sha256, as `zoo.weights_hash` does."""
    return sha256(path)[:16]
