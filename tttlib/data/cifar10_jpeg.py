"""CIFAR-10 as a hub copy serves it: every image once saved as JPEG (quality 75, 4:2:0).

Not the lossless dataset: models trained on that one lose about 11 points here, so numbers are never
to be compared with published CIFAR-10 ones, and files with lossless images are refused.
`cifar10-jpeg-{train,test}.parquet` (`img: struct<bytes, path>`, `label`). Source of the images:
Krizhevsky, Learning multiple layers of features from tiny images, 2009.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from tttlib.data import decoded, hub
from tttlib.data.imageset import ImageSet, check_split
from tttlib.runtime.errors import MissingDataError

CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
_LOSSLESS = (
    "its images are JPEG; a copy with lossless images (PNG) is the set cifar10, see: tttlib data "
    "download cifar10"
)


def load(split: str, root: Path) -> ImageSet:
    """Load train (50,000 images of 32x32) or test (10,000).

    Raises MissingDataError or DamagedDataError, naming the folder or the file.
    """
    split = check_split("cifar10-jpeg", split, ("train", "test"))
    return decoded.load(find_source(root, split), split, "cifar10-jpeg")


def find_source(folder: Path, split: str, name: str = "cifar10-jpeg") -> decoded.Source:
    """Return where one split lies below `folder`. Raises MissingDataError."""
    files = sorted(folder.glob(f"{name}-{split}*.parquet"))
    if not files:
        raise MissingDataError(
            f"{name}: {folder} {'has' if folder.is_dir() else 'does not exist, so there is'} "
            f"no {name}-{split}*.parquet. Put a hub copy of CIFAR-10 whose images are JPEG there "
            "under that name, or point TTTLIB_DATA (or root=) at the folder that has it; "
            f"{_LOSSLESS}."
        )
    return decoded.Source(
        name,
        files,
        32,
        classes=lambda: CLASSES,
        rows=partial(hub.rows, files, image="img"),
        remedy=f"fetch it again: {_LOSSLESS}",
        formats=("JPEG",),
    )
