"""ImageNet's validation images (ILSVRC 2012), and the subsets and class order of its relatives.

Two layouts are read, whichever lies under the root:

* one folder per wnid in `ImageNet/val`, `imagenet/val`, `ILSVRC2012/val` or `val`;
* the official flat archive, ILSVRC2012_val_00000001.JPEG … in such a folder, with the development
  kit's `ILSVRC2012_validation_ground_truth.txt` and `meta.mat` (beside it, or in
  `ILSVRC2012_devkit_t12/data`). The kit numbers the classes in an order of its own.

Labels number the 1000 sorted wnids, never the folders present nor the kit's numbers.

Source: Russakovsky et al., ImageNet Large Scale Visual Recognition Challenge, IJCV 2015.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sized
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from tttlib.data import class_folders, imagenet_boxes
from tttlib.data.class_folders import Labelled
from tttlib.data.imageset import ImageSet, check_split
from tttlib.data.lookup import find, first_with, listing
from tttlib.runtime import text
from tttlib.runtime.errors import DamagedDataError, MissingDataError

FOLDERS = ("ImageNet/val", "imagenet/val", "ILSVRC2012/val", "val", "ILSVRC2012_img_val")
N_IMAGES = 50_000
SOURCE = "https://image-net.org (ILSVRC2012_img_val.tar and ILSVRC2012_devkit_t12.tar.gz)"

LIST_FILE = "imagenet_test_image_ids.txt"  # of RobustBench; the papers' 5,000 images
LIST_SHA256 = "d4121626d07722a0126c35b1563042e46a546f1a05ce705f2cdc635896d58574"
_A_CLASS = 5

_TRUTH, _META = "ILSVRC2012_validation_ground_truth.txt", "meta.mat"


def load(
    split: str,
    root: Path,
    *,
    name: str = "imagenet",
    subset: str | None = None,
    preprocess: str = "resize256-bicubic",
    boxes: bool = False,
) -> ImageSet:
    """Load the 50,000 validation images; they are decoded when indexed.

    Parameters
    ----------
    split
        "valid".
    root
        The data root.
    name
        What to call the set in messages.
    subset
        None, or "5000": see `choose`; the set's name says what was taken.
    preprocess
        One of `tttlib.boxes.PREPROCESS`.
    boxes
        Whether to read the annotations (XML, see `imagenet_boxes`) and give each image the box of
        its class that covers most of the preprocessed image, in that image's pixels.

    Raises
    ------
    MissingDataError, DamagedDataError, ValueError
        Naming the file or the legal values.
    """
    split = check_split(name, split, ("valid",))
    folder = find(name, root, FOLDERS, SOURCE)
    remedy = f"unpack the archive from {SOURCE} again"
    if any(path.is_dir() for path in listing(folder)):
        files = class_folders.read(folder, wnids(), remedy)
    else:
        files = _flat(folder, root, remedy)
    name, files = choose("imagenet", files, subset, [root, folder, folder.parent])
    how = {"preprocess": preprocess, "remedy": remedy}
    made = class_folders.image_set(name, split, files, class_names(), name, **how)
    places = [root, folder.parent, folder]
    return with_boxes(made, files, places, [preprocess]) if boxes else made


def with_boxes(made: ImageSet, files: Labelled, places: list[Path], steps: list[str]) -> ImageSet:
    """Return the set with the annotations' boxes after the preprocessings `steps`."""
    folder = imagenet_boxes.find(made.name, places)
    return replace(made, boxes=imagenet_boxes.read(folder, files, wnids(), steps))


@cache
def wnids() -> tuple[str, ...]:
    """Return the 1000 wnids, sorted: the position is the label."""
    return tuple(_info().label_names())


@cache
def class_names() -> tuple[str, ...]:
    """Return the first name of each class by label (two pairs of classes share one)."""
    return tuple(words.split(",")[0] for words in _info().label_descriptions())


def _info() -> Any:
    from timm.data import ImageNetInfo  # takes seconds to import

    return ImageNetInfo("imagenet-1k")


def choose(
    dataset: str, files: Labelled, subset: str | None, places: list[Path]
) -> tuple[str, Labelled]:
    """Return name and files of a subset.

    Parameters
    ----------
    dataset
        Name of the whole set.
    files
        All files and labels.
    subset
        None: all. "5000": the images that `imagenet_test_image_ids.txt` lists, in its order, if one
        of `places` has it (continual adaptation is published on these); otherwise the first 5 of
        each class, sorted. Numbers of the two are not comparable.
    places
        Folders that may hold the list.

    Returns
    -------
    tuple
        The name, which tells these apart, and a set that lacks images from a complete one; and the
        chosen files.

    Raises
    ------
    ValueError
        For another subset.
    DamagedDataError
        For a list that is not the published one or names an image that is not there.
    """
    if subset not in (None, "5000"):
        raise ValueError(f'{dataset} has no subset {subset!r}; legal are None and "5000"')
    if subset is None:
        return counted(dataset, files, N_IMAGES), files
    listed = first_with(places, LIST_FILE)
    if listed is not None:
        at = {path.name: (path, label) for path, label in files}
        chosen = [_listed(line, at, listed) for line in _lines(listed)]
        return f"{dataset} (5000 list)", chosen
    per_class: dict[int, Labelled] = {}
    for path, label in files:
        per_class.setdefault(label, []).append((path, label))
    chosen = [one for label in sorted(per_class) for one in per_class[label][:_A_CLASS]]
    return counted(dataset, chosen, _A_CLASS * len(wnids()), "5 a class"), chosen


def counted(dataset: str, files: Sized, n: int, *notes: str) -> str:
    """Return the set's name with notes, one of them that it lacks images if it has not `n`."""
    if len(files) != n:
        notes += (f"{len(files)} of {n} images",)
    return f"{dataset} ({', '.join(notes)})" if notes else dataset


def _lines(path: Path) -> list[str]:
    content = text.read(path)
    digest = hashlib.sha256(content.encode()).hexdigest()
    if digest != LIST_SHA256:
        raise DamagedDataError(
            f"{path} is not the published list of 5,000 images (sha256 {digest[:12]}…, expected "
            f"{LIST_SHA256[:12]}…); take robustbench/helper_files/{LIST_FILE} as it is, or remove "
            "the file to get 5 images a class"
        )
    return content.split()


def _listed(line: str, at: dict[str, tuple[Path, int]], listed: Path) -> tuple[Path, int]:
    """Return the file that a line `wnid/filename` means."""
    wnid, _, file = line.partition("/")
    if file not in at:
        raise DamagedDataError(f"{listed} lists {line}, which is missing; unpack the archive again")
    path, label = at[file]
    if wnids()[label] != wnid:
        raise DamagedDataError(
            f"{path} has the class {wnids()[label]}, but {listed} says {wnid}; unpack the archive "
            "again"
        )
    return path, label


def _flat(folder: Path, base: Path, remedy: str) -> Labelled:
    """Return the files of the flat archive with the development kit's labels, in file order."""
    paths, _ = class_folders.pictures(folder)
    if not paths:
        raise DamagedDataError(f"{folder} holds neither class folders nor images; {remedy}")
    places = [
        place / kit
        for place in (folder, folder.parent, base)
        for kit in (".", "ILSVRC2012_devkit_t12/data")
    ]
    truth, meta = (_kit_file(name, places, folder) for name in (_TRUTH, _META))
    label_of = _kit_labels(meta)
    numbers = text.read(truth).split()
    if len(numbers) != N_IMAGES or not all(n.isdecimal() and int(n) in label_of for n in numbers):
        raise DamagedDataError(
            f"{truth} must have {N_IMAGES} lines, each a number of {meta.name} (1..1000), not "
            f"{len(numbers)} such lines; unpack ILSVRC2012_devkit_t12.tar.gz again"
        )
    files: Labelled = []
    for path in paths:
        match = re.fullmatch(r"ILSVRC2012_val_(\d{8})\.JPEG", path.name)
        if not match or not 1 <= int(match[1]) <= N_IMAGES:
            raise DamagedDataError(
                f"{path} is not named ILSVRC2012_val_00000001.JPEG … {N_IMAGES:08d}; remove it"
            )
        files.append((path, label_of[int(numbers[int(match[1]) - 1])]))
    return files


def _kit_file(name: str, places: list[Path], folder: Path) -> Path:
    found = first_with(places, name)
    if found is not None:
        return found
    looked = ", ".join(str(place) for place in dict.fromkeys(places))
    raise MissingDataError(
        f"imagenet: {folder} is the flat archive, which needs the labels' file {name}; looked in "
        f"{looked}. Unpack ILSVRC2012_devkit_t12.tar.gz from https://image-net.org beside it"
    )


def _kit_labels(meta: Path) -> dict[int, int]:
    """Return the kit's number of a class -> its label."""
    from scipy.io import loadmat

    position = {wnid: i for i, wnid in enumerate(wnids())}
    try:
        table = loadmat(meta, squeeze_me=True)["synsets"]
        leaves = table[table["num_children"].astype(int) == 0]
        numbers, names = leaves["ILSVRC2012_ID"].astype(int), leaves["WNID"]
        label_of = {int(n): position[str(w)] for n, w in zip(numbers, names, strict=True)}
        if sorted(label_of) != list(range(1, 1001)) or len(set(label_of.values())) != 1000:
            raise ValueError("the 1000 classes must be numbered from 1 to 1000")
    except Exception as error:  # arbitrary bytes fail in arbitrary ways
        raise DamagedDataError(
            f"{meta} cannot be read as the development kit's ({error!r}); "
            "unpack ILSVRC2012_devkit_t12.tar.gz again"
        ) from error
    return label_of
