"""Datasets by name. One file per family; every loader returns an `ImageSet`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from tttlib.data import (
    cifar,
    cifar10_jpeg,
    cifar_c,
    imagenet,
    imagenet_c,
    scenes,
    tiny_imagenet,
)
from tttlib.data.imageset import (
    SPLITS,
    DamagedDataError,
    ImageSet,
    MissingDataError,
    check_split,
    data_root,
)
from tttlib.data.own_images import folder, listed, parquet
from tttlib.data.released import Released

__all__ = [
    "NAMES",
    "DamagedDataError",
    "ImageSet",
    "MissingDataError",
    "data_root",
    "folder",
    "load",
    "parquet",
]

_LOADERS: dict[str, Callable[..., ImageSet]] = {
    "scenes": scenes.load,
    "tiny-imagenet": tiny_imagenet.load,
    "tiny-imagenet-100": tiny_imagenet.load_100,
    "tiny-imagenet-50": tiny_imagenet.load_50,
    "cifar10-jpeg": cifar10_jpeg.load,
    "cifar10": cifar.load_10,
    "cifar100": cifar.load_100,
    "cifar10-c": cifar_c.load_10,
    "cifar100-c": cifar_c.load_100,
    "imagenet": imagenet.load,
    "imagenet-sample": imagenet.load_sample,
    "imagenet-c": imagenet_c.load,
    "tiny-imagenet-c": imagenet_c.load_tiny,
}
NAMES = tuple(_LOADERS)


def load(name: str, split: str, root: str | Path | None = None, **options: Any) -> ImageSet:
    """The images of one split.

    name     one of `NAMES`; "A+B" takes the corrupted versions of A's images from the files of B
             (see `released`): "cifar10+cifar10-c", "imagenet+imagenet-c". Splits that are for
             training are A's alone. "folder:PATH" is `folder(PATH)`, or its sub-folder of the
             split's name if there is one
    split    "train", "valid" (alias "val") or "test"; sets without a test split serve valid only
    root     folder with the dataset's files, else $TTTLIB_DATA, else the user's cache
    options  of the family's own loader: `n=` and `seed=` of scenes, `corruption=` and `severity=`
             of the sets that end in -c, `subset=` and `preprocess=` of imagenet …

    Raises ValueError (unknown name, split or option), MissingDataError (says where it looked and
    how to get the files) or DamagedDataError (names the bad file).
    """
    if name.startswith("folder:"):
        return _own(Path(name.removeprefix("folder:")).expanduser(), split, **options)
    name, plus, files = name.partition("+")
    if name not in _LOADERS:
        raise ValueError(f"unknown dataset {name!r}; known are {', '.join(NAMES)}")
    loader = _LOADERS[name]
    legal = _options(loader)
    for option in options:
        if option not in legal:
            raise ValueError(
                f"{name} has no option {option!r}; it has {', '.join(legal) or 'none'}"
            )
    clean = loader(split, root, **options)
    return clean if not plus or clean.split == "train" else _with_released(clean, files, root)


def _own(path: Path, split: str, **options: Any) -> ImageSet:
    """The images of a folder of one's own that belong to a split: all, or a sub-folder's."""
    split = check_split(str(path), split, SPLITS)
    part = path / split
    options.setdefault("classes", listed(path))
    found = folder(part if part.is_dir() else path, **options)
    return replace(found, name=path.resolve().name, split=split)


def _with_released(clean: ImageSet, name: str, root: str | Path | None) -> ImageSet:
    known = [one for one in NAMES if one.endswith("-c")]
    if name not in known:
        raise ValueError(f"unknown corrupted files {name!r}; known are {', '.join(known)}")
    found = Released(
        name, lambda corruption, severity: load(
            name, "test", root, corruption=corruption, severity=severity
        )
    )  # fmt: skip
    return found.checked(clean, "fog", 5)


def _options(loader: Callable[..., ImageSet]) -> list[str]:
    """The keywords that are not fixed already (a partial's are)."""
    fixed = getattr(loader, "keywords", {})
    parameters = inspect.signature(loader).parameters.values()
    keywords = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    return [keyword for keyword in keywords if keyword not in fixed and keyword != "name"]
