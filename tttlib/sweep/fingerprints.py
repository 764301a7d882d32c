"""Which data and weights a unit uses, told from its parameters, and their fingerprints.

Parameters called `dataset` with the splits `split`, `…_split` (empty ones count for nothing), the
folder `root` and the loader's `options` name data; `model`, `models`, `…_model`, `…_models` and
`head` name weights: bundled ones, or files.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    """
    fingerprints = {}
    dataset = parameters.get("dataset")
    if isinstance(dataset, str) and dataset:
        for split in _splits(parameters):
            options = parameters.get("options")
            images_ = images(dataset, split, parameters.get("root") or "", options)
            name = " ".join(["data", dataset, split, *([_text(options)] if options else [])])
            fingerprints[name] = images_.fingerprint
            _check_size(images_, dataset, split, parameters)
    for name in _names(parameters):
        path = _BUNDLED / f"{name}.safetensors"
        path = path if path.is_file() else weights_file(name)
        if not path.is_file():
            known = ", ".join(sorted(p.stem for p in _BUNDLED.glob("*.safetensors")))
            raise FileNotFoundError(f"no weights {name!r}: no such file, and bundled are {known}")
        fingerprints[f"weights {path.stem}"] = _digest(
            path, path.stat().st_mtime_ns, path.stat().st_size
        )
    return fingerprints


def signature(parameters: Mapping[str, Any]) -> str:
    """Return a text that is equal for units that use the same things."""
    named = ("dataset", "root", "options", "n_images", "split")
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


def _splits(parameters: Mapping[str, Any]) -> Iterator[str]:
    """Yield each split once."""
    named = (v for k, v in parameters.items() if k == "split" or k.endswith("_split"))
    yield from dict.fromkeys(v for v in named if isinstance(v, str) and v)


def _names(parameters: Mapping[str, Any]) -> Iterable[str]:
    """Return each name of weights once."""
    named = [v for k, v in parameters.items() if WEIGHTS.fullmatch(k)]
    flat = [n for v in named for n in (v if isinstance(v, list | tuple) else [v])]
    return dict.fromkeys(f for n in flat if isinstance(n, str) and n for f in _files(n))


def _files(name: str) -> list[str]:
    """Return the files of "PRESET:FILE+HEAD"; another name stands for itself."""
    parts = released(name)
    return [name] if parts is None else [part for part in parts[1:] if part]


def _check_size(images: ImageSet, dataset: str, split: str, parameters: Mapping[str, Any]) -> None:
    """Refuse, before anything runs, to take more images than there are."""
    n = parameters.get("n_images")
    if isinstance(n, int) and n > len(images) and split == parameters.get("split"):
        raise ValueError(f"n_images is {n}, but {dataset!r} split {split!r} has {len(images)}")


@functools.lru_cache(maxsize=64)
def _digest(path: Path, changed: int, size: int) -> str:
    """Return 16 hex digits of the file's sha256, as `zoo.weights_hash` does."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
