"""Image files in one folder per class."""

from __future__ import annotations

import hashlib
import logging
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tttlib.data import rgb
from tttlib.data.image_files import FileImages
from tttlib.data.imageset import ImageSet
from tttlib.data.lookup import listing
from tttlib.runtime.errors import DamagedDataError
from tttlib.runtime.text import composed

log = logging.getLogger(__name__)

_NOTES = (".csv", ".db", ".ini", ".json", ".md", ".tsv", ".txt", ".xml", ".yaml", ".yml")

Labelled = list[tuple[Path, int]]


def read(folder: Path, classes: Sequence[str], remedy: str) -> Labelled:
    """Return every image file below the folder's class folders, sorted by class, then by name.

    Files that are neither images of a format served nor notes are left out, with a warning that
    says which.

    Parameters
    ----------
    folder
        Holds one folder per class.
    classes
        Names that these may have; a label is the position here, whatever is present.
    remedy
        Ends the messages.

    Raises
    ------
    DamagedDataError
        For a folder of another name, for one without images, and for none.
    """
    label_of = {composed(name): i for i, name in enumerate(classes)}
    files: Labelled = []
    strangers: list[Path] = []
    for path in listing(folder):
        if path.is_file():  # a list or a read-me, or a picture without a class
            strangers.append(path)
            continue
        label = label_of.get(composed(path.name))
        if label is None:
            raise DamagedDataError(
                f"{path} is none of the {len(classes)} classes; remove it, or {remedy}"
            )
        images, others = pictures(path)
        if not images:
            raise DamagedDataError(f"{path} holds no images{_kinds(others)}; {remedy}")
        files += [(image, label) for image in images]
        strangers += others
    if not files:
        raise DamagedDataError(f"{folder} holds no class folders; {remedy}")
    if _kinds(strangers):
        log.warning(
            "%s: not served%s; served are %s in class folders",
            *(folder, _kinds(strangers), " ".join(rgb.SUFFIXES)),
        )
    return sorted(files, key=lambda one: (one[1], one[0].name, str(one[0])))


def pictures(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return the image files in the folder and below, sorted by name, and the other files.

    Raises DamagedDataError for a folder that cannot be read.
    """
    images, others = [], []
    for path in listing(folder):
        if path.suffix.lower() in rgb.SUFFIXES:
            images.append(path)
        elif path.is_dir():
            below = pictures(path)
            images += below[0]
            others += below[1]
        else:
            others.append(path)
    return images, others


def _kinds(files: Iterable[Path]) -> str:
    """Describe files that are no notes by kind and number, such as ": 3 .heic, 1 .mov"."""
    suffixes = (path.suffix.lower() or path.name for path in files)
    count = Counter(suffix for suffix in suffixes if suffix not in _NOTES)
    return f": {', '.join(f'{n} {suffix}' for suffix, n in count.most_common(5))}" if count else ""


def image_set(
    name: str, split: str, files: Labelled, classes: Sequence[str], key: str, **how: Any
) -> ImageSet:
    """Return the files as an `ImageSet`; `key` goes into the fingerprint, the rest to `FileImages`.

    All files are read for the fingerprint, and the first image is decoded, so that what is wrong
    with all of them is said here.
    """
    paths, labels = zip(*files, strict=True)
    images = FileImages(paths, **how)
    content = repr((tuple(classes), list(labels)))
    fingerprint = images.fingerprint(f"{key} {hashlib.sha256(content.encode()).hexdigest()}")
    images[:1]
    at = torch.tensor(labels)
    return ImageSet(name, split, images, at, tuple(classes), numbers(paths), fingerprint)


def numbers(paths: Sequence[Path]) -> Tensor:
    """Return int64 [N]: the number that ends each file's name if all differ, else the position.

    ILSVRC2012_val_00000293 and val_293 are image 293 in every subset and under every corruption.
    """
    ends = [re.search(r"_(\d{1,18})$", path.stem) for path in paths]
    values = [int(end[1]) for end in ends if end]
    unique = len(set(values)) == len(paths) == len(values)
    return torch.tensor(values) if unique else torch.arange(len(paths))
