"""Tiny-ImageNet-200: 64x64 photographs of 200 classes with one object box each.

Two layouts are read, whichever lies under the root:

* parquet, as the Hugging Face hub serves image sets: `tiny-imagenet-train-*.parquet`,
  `tiny-imagenet-valid.parquet` (`image: struct<bytes, path>`, `label`, optional `bbox`), with
  `tiny-imagenet-classes.tsv` for the class names when it is there;
* the official folder `tiny-imagenet-200/` (`wnids.txt`, `words.txt`, `train/<wnid>/images/*.JPEG`,
  `train/<wnid>/<wnid>_boxes.txt`, `val/images`, `val/val_annotations.txt`).

Labels number the *sorted* wnids, never the folders present nor the order of `wnids.txt`. The test
split has no public labels, so train and valid are served. JPEGs are decoded once (grey becomes RGB)
into a uint8 file that is memory-mapped from then on; its name carries the source's fingerprint.

Source: Le and Yang, "Tiny ImageNet Visual Recognition Challenge", 2015.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from tttlib.data import decoded, hub
from tttlib.data.decoded import Row, Source
from tttlib.data.imageset import ImageSet, check_split
from tttlib.runtime import text
from tttlib.runtime.errors import DamagedDataError, MissingDataError

SIZE = 64
N_CLASSES = 200
_AGAIN = "unpack tiny-imagenet-200.zip again"


def load(split: str, root: Path, *, name: str = "tiny-imagenet", stride: int = 1) -> ImageSet:
    """Load Tiny-ImageNet's train (100,000 images) or valid split (10,000).

    Parameters
    ----------
    split
        "train" or "valid".
    root
        The data root.
    name
        What to call the set.
    stride
        Keep every stride-th class (in sorted wnid order) and renumber the labels; the named subsets
        tiny-imagenet-100 and tiny-imagenet-50 are strides 2 and 4.

    Returns
    -------
    ImageSet
        Boxes are xmin, ymin, xmax, ymax in pixels with exclusive maxima (the files' are inclusive).

    Raises
    ------
    MissingDataError, DamagedDataError
        Naming the folder or the file.
    """
    split = check_split(name, split, ("train", "valid"))
    full = decoded.load(find_source(root, split, name), split, name)
    if stride == 1:
        return full
    part = full.subset(full.labels % stride == 0)
    return replace(
        part,
        labels=part.labels // stride,
        classes=full.classes[::stride],
        fingerprint=f"{full.fingerprint}/{stride}",
    )


load_100 = partial(load, name="tiny-imagenet-100", stride=2)
load_50 = partial(load, name="tiny-imagenet-50", stride=4)


def find_source(folder: Path, split: str, name: str) -> Source:
    """Return where one split lies below `folder`. Raises MissingDataError."""
    parquet = sorted(folder.glob(f"tiny-imagenet-{split}*.parquet"))
    if parquet:
        return Source(
            "tiny-imagenet",
            parquet,
            SIZE,
            classes=partial(_tsv_classes, folder / "tiny-imagenet-classes.tsv"),
            rows=partial(hub.rows, parquet),
        )
    official = folder if (folder / "wnids.txt").is_file() else folder / "tiny-imagenet-200"
    if (official / "wnids.txt").is_file():
        lists = [official / "wnids.txt"]
        if split == "valid":
            lists.append(official / "val" / "val_annotations.txt")
        else:
            lists += sorted(official.glob("train/*/*_boxes.txt"))
        return Source(
            "tiny-imagenet",
            lists,
            SIZE,
            classes=lambda: tuple(_official_names(official).values()),
            rows=partial(_official_rows, official, split),
            remedy=_AGAIN,
            images=lambda: [path for _, path, _, _ in _official_entries(official, split)],
        )
    state = "holds neither" if folder.is_dir() else "does not exist, so there is neither"
    raise MissingDataError(
        f"{name}: {folder} {state} tiny-imagenet-{split}*.parquet nor tiny-imagenet-200/. "
        "Get tiny-imagenet-200.zip from http://cs231n.stanford.edu/ and unpack it there, or point "
        "TTTLIB_DATA (or root=) at the folder that has it."
    )


def class_names(folder: Path) -> dict[str, str] | None:
    """Return wnid -> name in the order of the labels, from either layout's lists; None without."""
    for official in (folder, folder / "tiny-imagenet-200"):
        if (official / "wnids.txt").is_file():
            return _official_names(official)
    path = folder / "tiny-imagenet-classes.tsv"
    return _tsv(path) if path.is_file() else None


def _tsv(path: Path) -> dict[str, str]:
    lines = [line.split("\t") for line in text.read(path).splitlines() if line[:1].isdigit()]
    legal = all(len(cells) == 3 and cells[0] == str(i) for i, cells in enumerate(lines))
    if not legal or len({wnid for _, wnid, _ in lines}) != len(lines):
        raise DamagedDataError(f"{path} must number the labels from 0, one a line")
    return {wnid: words.split(",")[0] for _, wnid, words in lines}


def _tsv_classes(path: Path) -> tuple[str, ...]:
    if not path.is_file():
        return tuple(f"class {i}" for i in range(N_CLASSES))
    return tuple(_tsv(path).values())


def _official_names(folder: Path) -> dict[str, str]:
    """Return wnid -> name, sorted by wnid."""
    path, words = folder / "words.txt", {}
    if path.is_file():
        lines = (line.partition("\t") for line in text.read(path).splitlines())
        words = {wnid: names.split(",")[0] for wnid, _, names in lines}
    wnids = sorted(text.read(folder / "wnids.txt").split())
    return {wnid: words.get(wnid, wnid) for wnid in wnids}


def _official_rows(folder: Path, split: str) -> Iterator[Row]:
    label_of = {wnid: i for i, wnid in enumerate(_official_names(folder))}
    entries = enumerate(_official_entries(folder, split))
    for number, (listing, path, wnid, (x1, y1, x2, y2)) in entries:
        if wnid not in label_of:
            raise DamagedDataError(f"{listing} names {wnid!r}, which wnids.txt does not")
        if not path.is_file():
            raise DamagedDataError(f"{path} is missing, but listed; {_AGAIN}")
        where = f"image {number} of {split}, {path},"
        yield path.read_bytes(), where, label_of[wnid], (x1, y1, x2, y2)


def _official_entries(folder: Path, split: str) -> Iterator[tuple[Path, Path, str, list[int]]]:
    """Yield every listing, image file, wnid and box, in the order of the ids."""
    if split == "valid":
        listing, images = folder / "val" / "val_annotations.txt", folder / "val" / "images"
        for (file, wnid), box in _table(listing, words=2):
            yield listing, images / file, wnid, box
        return
    for wnid in _official_names(folder):
        listing, images = folder / f"train/{wnid}/{wnid}_boxes.txt", folder / f"train/{wnid}/images"
        for (file,), box in _table(listing, words=1):
            yield listing, images / file, wnid, box


def _table(path: Path, *, words: int) -> Iterator[tuple[list[str], list[int]]]:
    """Yield the lines, each of `words` words and the four numbers of a box."""
    if not path.is_file():
        raise DamagedDataError(f"{path} is missing; {_AGAIN}")
    for number, line in enumerate(text.read(path).splitlines(), 1):
        cells = line.split()
        if not cells:
            continue
        try:
            box = [int(cell) for cell in cells[words:]]
        except ValueError:
            box = []
        if len(cells) != words + 4 or len(box) != 4:
            raise DamagedDataError(
                f"{path}, line {number}: {line!r} is not {words} words and 4 box coordinates; "
                f"{_AGAIN}"
            )
        yield cells[:words], box
