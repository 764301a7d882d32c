"""The datasets by name: what each is, and where it would be found. Needs no torch, so it is quick.

How they are read stands in `tttlib.data`, whether they are intact in `tttlib.data.delivery.check`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Entry:
    """One dataset.

    Attributes
    ----------
    name, splits, what
        The name that `data.load` takes, its splits, and what it is.
    looked
        What is looked for under the data root, for people.
    places
        Glob patterns below the root; the dataset is there if one matches.
    """

    name: str
    splits: tuple[str, ...]
    what: str
    looked: str
    places: tuple[str, ...]


# name | splits | what it is | what is looked for; then the places, if it is not built in
_TABLE = """
scenes            | train valid test | digits over photographs, 32x32, 10 classes, boxes | nothing: made on the spot
scenes-calm       | train valid test | larger digits over calmer photographs, boxes | nothing: made on the spot
tiny-imagenet     | train valid | photographs, 64x64, 200 classes, boxes | tiny-imagenet-200/ or tiny-imagenet-*.parquet
tiny-imagenet-100 | train valid | every second class of tiny-imagenet | tiny-imagenet-200/ or tiny-imagenet-*.parquet
tiny-imagenet-50  | train valid | every fourth class of tiny-imagenet | tiny-imagenet-200/ or tiny-imagenet-*.parquet
cifar10-jpeg      | train test  | CIFAR-10 once saved as JPEG (not comparable) | cifar10-jpeg-{train,test}*.parquet
cifar10           | train test  | photographs, 32x32, 10 classes | cifar-10-batches-py/
cifar100          | train test  | photographs, 32x32, 100 classes | cifar-100-python/
cifar10-c         | test        | cifar10's test set under 19 corruptions | CIFAR-10-C/
cifar100-c        | test        | cifar100's test set under 19 corruptions | CIFAR-100-C/
imagenet          | valid       | ILSVRC 2012 validation, 1000 classes | ImageNet/val/, ILSVRC2012/val/, val/ …
imagenet-sample   | valid       | 5,000 of them: the published list, else 5 a class | as imagenet, and imagenet_test_image_ids.txt
imagenet-1000     | valid       | a sample: one photograph of each class | imagenet-sample*.parquet, imagenet-sample-images/
imagenet-c        | test        | imagenet under 19 corruptions, 224x224 | ImageNet-C/
tiny-imagenet-c   | test        | tiny-imagenet under 15 corruptions, 64x64 | Tiny-ImageNet-C/
"""  # noqa: E501
_TINY = ("tiny-imagenet-*.parquet", "tiny-imagenet-200/wnids.txt", "wnids.txt")
_IMAGENET = ("ImageNet/val", "imagenet/val", "ILSVRC2012/val", "val", "ILSVRC2012_img_val")
_SAMPLE = ("imagenet-sample-1000.parquet", "imagenet-sample-images/n*_*", "imagenet-sample/n*_*",
           "n????????_*.JPEG")  # fmt: skip
_PLACES = {
    "scenes": (),
    "scenes-calm": (),
    "tiny-imagenet": _TINY,
    "tiny-imagenet-100": _TINY,
    "tiny-imagenet-50": _TINY,
    "cifar10-jpeg": ("cifar10-jpeg-*.parquet",),
    "imagenet": _IMAGENET,
    "imagenet-sample": (*_IMAGENET, *_SAMPLE),
    "imagenet-1000": _SAMPLE,
}  # the others: the folder that is looked for


def _entry(line: str) -> Entry:
    name, splits, what, looked = (cell.strip() for cell in line.split("|"))
    places = _PLACES.get(name, (looked.rstrip("/"),))
    return Entry(name, tuple(splits.split()), what, looked, places)


ENTRIES = tuple(map(_entry, _TABLE.strip().splitlines()))
OF_CORRUPTIONS = "names ending in -c need a corruption and a severity (data.load); notebooks take \
the other names and corrupt the images themselves"


def found(entry: Entry, root: Path) -> Path | None:
    """Return the first of the entry's places that exists, by a cheap look; None without one."""
    for place in entry.places:
        match = next(iter(sorted(root.glob(place))), None)
        if match is not None:
            return match
        if root.name == Path(place).name and root.is_dir():
            return root
    return None


def table(root: Path) -> list[str]:
    """Return the catalogue as lines of text with aligned columns, heading first."""
    rows = [("name", "splits", "there", "looked for below the root", "what it is")]
    for entry in ENTRIES:
        there = "built in" if not entry.places else "yes" if found(entry, root) else "no"
        rows.append((entry.name, ", ".join(entry.splits), there, entry.looked, entry.what))
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    return [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[4]])
        for row in rows
    ]
