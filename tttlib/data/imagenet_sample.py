"""One real photograph of each of ImageNet's 1,000 classes, from public copies of such a sample.

Two layouts are read, whichever lies under the root:

* parquet: `imagenet-sample-1000.parquet` (`image: struct<bytes, path>`, `label`);
* files `n01440764_tench.JPEG`, named by wnid, in one flat folder `imagenet-sample-images`,
  `imagenet-sample` or the root itself.

Labels number the 1000 sorted wnids. Whether networks were trained on these photographs is unknown,
so their clean accuracy flatters; differences between methods on the same images are not affected
in kind.
"""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from tttlib.boxes import CROP
from tttlib.data import class_folders, decoded, hub, imagenet
from tttlib.data.class_folders import Labelled
from tttlib.data.imageset import ImageSet, check_split
from tttlib.data.lookup import is_folder
from tttlib.runtime.errors import DamagedDataError, MissingDataError

log = logging.getLogger(__name__)

FILE = "imagenet-sample-1000.parquet"
FOLDERS = ("imagenet-sample-images", "imagenet-sample", ".")
_REMEDY = "fetch the sample again"


def load(
    split: str,
    root: Path,
    *,
    name: str = "imagenet-1000",
    preprocess: str = "resize256-bicubic",
) -> ImageSet:
    """Load the photographs; the set's name says how many are there if not 1,000.

    Parameters
    ----------
    split
        "valid".
    root
        The data root.
    name
        What to call the set in messages.
    preprocess
        "resize256-bicubic" or "resize256-bilinear", see `image_files`.

    Raises
    ------
    MissingDataError, DamagedDataError, ValueError
        Naming the file or the legal values.
    """
    split = check_split(name, split, ("valid",))
    if (root / FILE).is_file():
        made = decoded.load(find_source(root, split, name, preprocess=preprocess), split, name)
        return replace(made, name=imagenet.counted("imagenet-1000", made.labels, 1000))
    files = _flat(root, name)
    called = imagenet.counted("imagenet-1000", files, 1000)
    how = {"preprocess": preprocess, "remedy": _REMEDY}
    return class_folders.image_set(called, split, files, imagenet.class_names(), called, **how)


def load_any(
    split: str,
    root: Path,
    *,
    name: str = "imagenet-sample",
    preprocess: str = "resize256-bicubic",
    boxes: bool = False,
) -> ImageSet:
    """Load the papers' 5,000 images, or the 1,000 photographs where only these are there.

    Parameters
    ----------
    split, root, name, preprocess
        As in `load`.
    boxes
        As in `imagenet.load`; the photographs have none.

    Raises
    ------
    MissingDataError, DamagedDataError, ValueError
        As `imagenet.load` and `load` do.
    """
    how: dict[str, Any] = {"name": name, "preprocess": preprocess}
    try:
        return imagenet.load(split, root, subset="5000", boxes=boxes, **how)
    except MissingDataError:
        if boxes or not is_there(root):
            raise
    log.warning(
        "%s: ImageNet's validation images are not under %s; served is imagenet-1000, one "
        "photograph of each class",
        *(name, root),
    )
    return load(split, root, **how)


def is_there(root: Path) -> bool:
    """Return whether one of the two layouts lies under the root."""
    return (root / FILE).is_file() or _folder(root) is not None


def find_source(
    folder: Path, split: str, name: str, *, preprocess: str = "resize256-bicubic"
) -> decoded.Source:
    """Return how the parquet file is read. Raises MissingDataError without one."""
    path = folder / FILE
    if not path.is_file():
        raise MissingDataError(_missing(folder, name))
    return decoded.Source(
        "imagenet-1000",
        [path],
        CROP,
        classes=imagenet.class_names,
        rows=partial(hub.rows, [path]),
        remedy=_REMEDY,
        preprocess=preprocess,
    )


def _flat(root: Path, name: str) -> Labelled:
    """Return files and labels, sorted by wnid."""
    folder = _folder(root)
    if folder is None:
        raise MissingDataError(_missing(root, name))
    label_of = {wnid: i for i, wnid in enumerate(imagenet.wnids())}
    files: Labelled = []
    for path in class_folders.pictures(folder)[0]:
        wnid = path.name.partition("_")[0]
        if wnid not in label_of:
            raise DamagedDataError(
                f"{path} is not named by one of ImageNet's 1000 wnids, as n01440764_tench.JPEG is; "
                "remove it"
            )
        files.append((path, label_of[wnid]))
    return sorted(files, key=lambda one: (one[1], one[0].name))


def _folder(root: Path) -> Path | None:
    """Return the first folder that directly holds a photograph named by a wnid."""
    for folder in (root / place for place in FOLDERS):
        if is_folder(folder) and any(
            re.match(r"n\d{8}_.*\.jpe?g$", path.name, re.IGNORECASE) for path in folder.iterdir()
        ):
            return folder
    return None


def _missing(root: Path, name: str) -> str:
    return (
        f"{name}: {root} holds neither {FILE} nor a folder {FOLDERS[0]} of n########_name.JPEG. "
        "Get a public sample of one photograph a class and put it there, or point TTTLIB_DATA (or "
        "root=) at the folder that has it."
    )
