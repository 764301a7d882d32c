"""Datasets by name. One file per family; every loader returns an `ImageSet`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from tttlib.data import (
    cifar,
    cifar10_jpeg,
    cifar_c,
    imagenet,
    imagenet_c,
    imagenet_sample,
    scenes,
    tiny_imagenet,
)
from tttlib.data.imageset import ImageSet
from tttlib.data.own_images import folder, of_split, parquet
from tttlib.data.released import Released
from tttlib.runtime.errors import DamagedDataError, MissingDataError
from tttlib.runtime.paths import data_root

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
    "scenes-calm": partial(scenes.load, composition="scenes-calm"),
    "tiny-imagenet": tiny_imagenet.load,
    "tiny-imagenet-100": tiny_imagenet.load_100,
    "tiny-imagenet-50": tiny_imagenet.load_50,
    "cifar10-jpeg": cifar10_jpeg.load,
    "cifar10": cifar.load_10,
    "cifar100": cifar.load_100,
    "cifar10-c": cifar_c.load_10,
    "cifar100-c": cifar_c.load_100,
    "imagenet": imagenet.load,
    "imagenet-sample": imagenet_sample.load_any,
    "imagenet-1000": imagenet_sample.load,
    "imagenet-c": imagenet_c.load,
    "tiny-imagenet-c": imagenet_c.load_tiny,
}
NAMES = tuple(_LOADERS)


def load(name: str, split: str, root: str | Path | None = None, **options: Any) -> ImageSet:
    """Load the images of one split.

    Parameters
    ----------
    name
        One of `NAMES`. "A+B" takes the corrupted versions of A's images from the files of B
        (see `released`): "cifar10+cifar10-c", "imagenet+imagenet-c"; splits that are for training
        are A's alone. "folder:PATH" is a folder of your own, see `own_images.of_split`.
    split
        "train", "valid" (alias "val") or "test"; sets without a test split serve valid only.
    root
        Folder with the dataset's files, else $TTTLIB_DATA, else the user's cache.
    **options
        Of the family's own loader: `n=` and `seed=` of scenes, `corruption=` and `severity=` of the
        sets that end in -c, `subset=` of imagenet, `preprocess=` of imagenet and folders ("" or
        None: the loader's own) … The preprocessing of "A+B" is that of both halves, or
        "OF A+OF B": PALM takes the files of ImageNet-C as they are
        ("resize256-bicubic+to_tensor", the default), TTT-MAE resizes and crops them once more
        ("resize256-bicubic").

    Raises
    ------
    ValueError
        For an unknown name, split or option.
    MissingDataError
        Saying where it looked and how to get the files.
    DamagedDataError
        Naming the bad file.
    """
    if not options.get("preprocess", True):
        del options["preprocess"]
    if name.startswith("folder:"):
        own = Path(name.removeprefix("folder:")).expanduser()
        _check_options(name, folder, options)
        return of_split(own, split, **options)
    name, plus, files = name.partition("+")
    if name not in _LOADERS:
        raise ValueError(f"unknown dataset {name!r}; known are {', '.join(NAMES)}")
    loader = _LOADERS[name]
    _check_options(name, loader, options)
    given, of_files = options.get("preprocess"), {}
    if plus and given:
        options["preprocess"], both, corrupted = given.partition("+")
        of_files = {"preprocess": corrupted if both else given}
    clean = loader(split, data_root(root), **options)
    if not plus or clean.split == "train":
        return clean
    return _with_released(clean, files, root, of_files)


def _with_released(
    clean: ImageSet, name: str, root: str | Path | None, options: dict[str, Any]
) -> ImageSet:
    known = [one for one in NAMES if one.endswith("-c")]
    if name not in known:
        raise ValueError(f"unknown corrupted files {name!r}; known are {', '.join(known)}")
    load_files = partial(load, name, "test", root, **options)
    return Released(name, load_files).checked(clean, "fog", 5)


def _check_options(name: str, loader: Callable[..., ImageSet], options: dict[str, Any]) -> None:
    """Raise ValueError for an option that is no keyword of the loader, or fixed (a partial's)."""
    fixed = {"name", *getattr(loader, "keywords", {})}
    parameters = inspect.signature(loader).parameters.values()
    legal = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.name not in fixed]
    for option in options:
        if option not in legal:
            raise ValueError(
                f"{name} has no option {option!r}; it has {', '.join(legal) or 'none'}"
            )
