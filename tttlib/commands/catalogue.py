"""The datasets by name: what each is, and where it would be found. Needs no torch, so it is quick.

How they are read stands in `tttlib.data`, whether they are intact in `tttlib.data.delivery.check`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Entry:
    """One dataset.

    looked  what is looked for under the data root, for people
    places  glob patterns below the root; the dataset is there if one matches
    """

    name: str
    splits: tuple[str, ...]
    what: str
    looked: str
    places: tuple[str, ...]


_TINY = (
    "tiny-imagenet-200/ or tiny-imagenet-*.parquet",
    ("tiny-imagenet-*.parquet", "tiny-imagenet-200/wnids.txt", "wnids.txt"),
)
_IMAGENET = ("ImageNet/val", "imagenet/val", "ILSVRC2012/val", "val", "ILSVRC2012_img_val")

ENTRIES = (
    Entry(
        "scenes",
        ("train", "valid", "test"),
        "digits over photographs, 32x32, 10 classes, boxes",
        "nothing: made on the spot",
        (),
    ),
    Entry("tiny-imagenet", ("train", "valid"), "photographs, 64x64, 200 classes, boxes", *_TINY),
    Entry("tiny-imagenet-100", ("train", "valid"), "every second class of tiny-imagenet", *_TINY),
    Entry("tiny-imagenet-50", ("train", "valid"), "every fourth class of tiny-imagenet", *_TINY),
    Entry(
        "cifar10-jpeg",
        ("train", "test"),
        "CIFAR-10 once saved as JPEG (not comparable)",
        "cifar10-jpeg-{train,test}*.parquet",
        ("cifar10-jpeg-*.parquet",),
    ),
    Entry(
        "cifar10",
        ("train", "test"),
        "photographs, 32x32, 10 classes",
        "cifar-10-batches-py/",
        ("cifar-10-batches-py",),
    ),
    Entry(
        "cifar100",
        ("train", "test"),
        "photographs, 32x32, 100 classes",
        "cifar-100-python/",
        ("cifar-100-python",),
    ),
    Entry(
        "cifar10-c",
        ("test",),
        "cifar10's test set under 19 corruptions",
        "CIFAR-10-C/",
        ("CIFAR-10-C",),
    ),
    Entry(
        "cifar100-c",
        ("test",),
        "cifar100's test set under 19 corruptions",
        "CIFAR-100-C/",
        ("CIFAR-100-C",),
    ),
    Entry(
        "imagenet",
        ("valid",),
        "ILSVRC 2012 validation, 1000 classes",
        "ImageNet/val/, ILSVRC2012/val/, val/ …",
        _IMAGENET,
    ),
    Entry(
        "imagenet-sample",
        ("valid",),
        "5,000 of them: the published list, else 5 a class",
        "as imagenet, and imagenet_test_image_ids.txt",
        _IMAGENET,
    ),
    Entry(
        "imagenet-c",
        ("test",),
        "imagenet under 19 corruptions, 224x224",
        "ImageNet-C/",
        ("ImageNet-C",),
    ),
    Entry(
        "tiny-imagenet-c",
        ("test",),
        "tiny-imagenet under 15 corruptions, 64x64",
        "Tiny-ImageNet-C/",
        ("Tiny-ImageNet-C",),
    ),
)
OF_CORRUPTIONS = "names ending in -c need a corruption and a severity (data.load); notebooks take \
the other names and corrupt the images themselves"


def found(entry: Entry, root: Path) -> Path | None:
    """The first of the entry's places that exists, by a cheap look; None if there is none."""
    for place in entry.places:
        match = next(iter(sorted(root.glob(place))), None)
        if match is not None:
            return match
        if root.name == Path(place).name and root.is_dir():
            return root
    return None


def table(root: Path) -> list[str]:
    """The catalogue as lines of text with aligned columns, heading first."""
    rows = [("name", "splits", "there", "looked for below the root", "what it is")]
    for entry in ENTRIES:
        there = "built in" if not entry.places else "yes" if found(entry, root) else "no"
        rows.append((entry.name, ", ".join(entry.splits), there, entry.looked, entry.what))
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    return [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[4]])
        for row in rows
    ]
