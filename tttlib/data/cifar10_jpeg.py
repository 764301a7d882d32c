"""CIFAR-10 as a hub copy serves it: every image once saved as JPEG (quality 75, 4:2:0).

Not the lossless dataset: models trained on that one lose about 11 points here, so numbers are never
to be compared with published CIFAR-10 ones. `cifar10-jpeg-{train,test}.parquet`
(`img: struct<bytes, path>`, `label`). Source of the images: Krizhevsky, Learning multiple layers of
features from tiny images, 2009.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from tttlib.data import decoded, hub
from tttlib.data.imageset import ImageSet, MissingDataError, check_split, data_root

CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)


def load(split: str, root: str | Path | None = None) -> ImageSet:
    """train (50,000 images of 32x32) or test (10,000).

    Raises MissingDataError or DamagedDataError, naming the folder or the file.
    """
    split = check_split("cifar10-jpeg", split, ("train", "test"))
    folder = data_root(root)
    files = sorted(folder.glob(f"cifar10-jpeg-{split}*.parquet"))
    if not files:
        raise MissingDataError(
            f"cifar10-jpeg: {folder} {'has' if folder.is_dir() else 'does not exist, so there is'} "
            f"no cifar10-jpeg-{split}*.parquet. Put the hub's CIFAR-10 parquet files there under "
            "that name, or point TTTLIB_DATA (or root=) at the folder that has them."
        )
    rows = partial(hub.rows, files, image="img")
    return decoded.load(
        decoded.Source("cifar10-jpeg", files, 32, lambda: CLASSES, rows), split, "cifar10-jpeg"
    )
