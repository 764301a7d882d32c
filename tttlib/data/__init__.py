"""Datasets by name. One file per family; every loader returns an `ImageSet`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tttlib.data import cifar10_jpeg, scenes, tiny_imagenet
from tttlib.data.imageset import DamagedDataError, ImageSet, MissingDataError, data_root

__all__ = ["NAMES", "DamagedDataError", "ImageSet", "MissingDataError", "data_root", "load"]

_LOADERS: dict[str, Callable[..., ImageSet]] = {
    "scenes": scenes.load,
    "tiny-imagenet": tiny_imagenet.load,
    "tiny-imagenet-100": tiny_imagenet.load_100,
    "tiny-imagenet-50": tiny_imagenet.load_50,
    "cifar10-jpeg": cifar10_jpeg.load,
}
NAMES = tuple(_LOADERS)


def load(name: str, split: str, root: str | Path | None = None, **options: int) -> ImageSet:
    """The images of one split.

    name     one of `NAMES`
    split    "train", "valid" (alias "val") or "test"; sets without a test split serve valid only
    root     folder with the dataset's files, else $TTTLIB_DATA, else the user's cache
    options  of the family's own loader, for instance `n=` and `seed=` of scenes

    Raises ValueError (unknown name, split or option), MissingDataError (says where it looked and
    how to get the files) or DamagedDataError (names the bad file).
    """
    if name not in _LOADERS:
        raise ValueError(f"unknown dataset {name!r}; known are {', '.join(NAMES)}")
    return _LOADERS[name](split, root, **options)
