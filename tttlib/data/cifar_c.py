"""CIFAR-10-C and CIFAR-100-C from the released arrays, memory-mapped.

`CIFAR-10-C/{<corruption>.npy, labels.npy}` and `CIFAR-100-C/…`: uint8 [5n,32,32,3], where rows
(s-1)n … sn-1 are severity s, in the order of the CIFAR test set (n = 10,000 in the release), and
labels.npy repeats the test labels five times.

Source: Hendrycks and Dietterich, ICLR 2019, arXiv 1903.12261; zenodo records 2535967 and 3555552.
"""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tttlib.data import c_options, contents
from tttlib.data.cifar import CLASSES_10, CLASSES_100, SIZE
from tttlib.data.imageset import ImageSet, check_split
from tttlib.data.lookup import find
from tttlib.runtime.errors import DamagedDataError, MissingDataError, unreadable

_SEVERITIES = len(c_options.SEVERITIES)


def _load(
    split: str,
    root: Path,
    *,
    corruption: str | None = None,
    severity: int = 5,
    name: str,
    folder: str,
    record: int,
    classes: tuple[str, ...],
) -> ImageSet:
    """Load the test images under one of the 19 released corruptions at severity 1 … 5.

    The images are a view of the memory-mapped file; an image's id is its place in the clean test
    set. Raises MissingDataError, DamagedDataError or ValueError, naming the file or the legal
    values.
    """
    split = check_split(name, split, ("test",))
    corruption, severity = c_options.check(name, corruption, severity)
    source = f"https://zenodo.org/records/{record} ({folder}.tar)"
    where = find(name, root, [folder], source)
    remedy = f"fetch it again from {source}"
    files = [where / f"{corruption}.npy", where / "labels.npy"]
    for file in files:
        if not file.is_file():
            raise MissingDataError(f"{name}: {file} is not there; {remedy}")
    pixels, labels = (_mapped(file, remedy) for file in files)
    rows = len(pixels) if pixels.ndim else 0
    n = rows // _SEVERITIES
    if pixels.dtype != np.uint8 or pixels.shape != (rows, SIZE, SIZE, 3) or rows % _SEVERITIES:
        raise DamagedDataError(
            f"{files[0]} must be uint8 [5n,{SIZE},{SIZE},3], not {pixels.dtype} {pixels.shape}; "
            f"{remedy}"
        )
    if labels.shape != (rows,) or labels.dtype.kind not in "iu" or not n:
        raise DamagedDataError(
            f"{files[1]} must have {rows} whole numbers, one for each row of {files[0].name}, not "
            f"{labels.dtype} {labels.shape}; {remedy}"
        )
    repeated = (labels.reshape(_SEVERITIES, n) == labels[:n]).all()
    if not repeated or not 0 <= labels.min() <= labels.max() < len(classes):
        raise DamagedDataError(
            f"{files[1]} must repeat {n} labels in 0..{len(classes) - 1} five times; {remedy}"
        )
    chosen = torch.from_numpy(pixels[(severity - 1) * n : severity * n])
    images, at = chosen.permute(0, 3, 1, 2), torch.from_numpy(labels[:n].astype(np.int64))
    fingerprint = contents.fingerprint(f"{name} {corruption} {severity}", files, remedy)
    return ImageSet(name, split, images, at, classes, torch.arange(n), fingerprint)


def _mapped(path: Path, remedy: str) -> np.ndarray:
    """Map the array copy on write (torch wants it writable; the file stays as it is).

    The header is compared with the file's size before numpy maps anything: its own product of the
    shape may overflow.
    """
    npy = np.lib.format
    header = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    try:
        with path.open("rb") as stream:
            shape, column_major, dtype = header[npy.read_magic(stream)](stream)
            offset = stream.tell()
        size, promised = path.stat().st_size, offset + math.prod(shape) * dtype.itemsize
        if dtype.hasobject:  # numpy would map them, and read the file's bytes as addresses
            raise ValueError("it holds Python objects")
        if size != promised:
            raise ValueError(f"{size} bytes, where its header promises {promised}")
        order: Any = "F" if column_major else "C"
        mapped = np.memmap(path, dtype, "c", offset, shape, order)
    except PermissionError as error:
        raise unreadable(path, error) from error
    except (OSError, ValueError, EOFError, SyntaxError, TypeError, KeyError) as error:
        raise DamagedDataError(f"{path} is truncated or no .npy ({error}); {remedy}") from error
    return mapped.view(np.ndarray)


load_10 = partial(_load, name="cifar10-c", folder="CIFAR-10-C", record=2535967, classes=CLASSES_10)
load_100 = partial(
    _load, name="cifar100-c", folder="CIFAR-100-C", record=3555552, classes=CLASSES_100
)
