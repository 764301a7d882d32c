"""Image files in one folder per class."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from tttlib.data.image_files import FileImages
from tttlib.data.imageset import DamagedDataError, ImageSet
from tttlib.data.lookup import listing

_SUFFIXES = (".jpeg", ".jpg", ".png", ".bmp", ".webp", ".ppm", ".tif", ".tiff")

Labelled = list[tuple[Path, int]]


def read(folder: Path, classes: Sequence[str], remedy: str) -> Labelled:
    """Every image file of the folder's class folders, sorted by class, then by name.

    classes  names that folders may have; a label is the position here, whatever is present
    Raises DamagedDataError for a folder of another name, for one without images, and for none.
    """
    label_of = {name: i for i, name in enumerate(classes)}
    found: Labelled = []
    for entry in listing(folder):
        if Path(entry.path).is_file():
            continue  # a list or a read-me beside the class folders
        if entry.name not in label_of:
            raise DamagedDataError(
                f"{entry.path} is none of the {len(classes)} classes; remove it, or {remedy}"
            )
        images = pictures(Path(entry.path))
        if not images:
            raise DamagedDataError(f"{entry.path} holds no images; {remedy}")
        found += [(image, label_of[entry.name]) for image in images]
    if not found:
        raise DamagedDataError(f"{folder} holds no class folders; {remedy}")
    return sorted(found, key=lambda one: (one[1], one[0].name))


def pictures(folder: Path) -> list[Path]:
    """The image files directly in the folder, sorted by name. Raises DamagedDataError."""
    return [Path(e.path) for e in listing(folder) if e.name.lower().endswith(_SUFFIXES)]


def image_set(
    name: str, split: str, files: Labelled, images: FileImages, classes: Sequence[str], key: str
) -> ImageSet:
    """The files as an `ImageSet`; `key` goes into the fingerprint.

    Sizes and names of all files are looked at, and the first image is decoded: what is wrong with
    all of them is told here.
    """
    fingerprint = images.fingerprint(key)
    images[:1]
    return ImageSet(
        name=name,
        split=split,
        images=images,
        labels=torch.tensor([label for _, label in files]),
        classes=tuple(classes),
        ids=numbers([path for path, _ in files]),
        fingerprint=fingerprint,
    )


def numbers(paths: Sequence[Path]) -> Tensor:
    """int64 [N]: the number at the end of each file's name if all differ, else the position.

    ILSVRC2012_val_00000293 and val_293 are image 293 in every subset and under every corruption.
    """
    ends = [re.search(r"_(\d{1,18})$", path.stem) for path in paths]
    found = [int(end[1]) for end in ends if end]
    unique = len(set(found)) == len(paths) == len(found)
    return torch.tensor(found) if unique else torch.arange(len(paths))
