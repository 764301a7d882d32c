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

import hashlib
import io
import json
import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image, UnidentifiedImageError
from tqdm.auto import tqdm

from tttlib.data.imageset import (
    DamagedDataError,
    ImageSet,
    MissingDataError,
    cache_root,
    check_split,
    data_root,
)

SIZE = 64
N_CLASSES = 200
_CACHE_VERSION = 2  # raise when decoding changes

log = logging.getLogger(__name__)

Row = tuple[bytes, int, tuple[int, int, int, int] | None]  # JPEG, label, inclusive box


def load(
    split: str, root: str | Path | None = None, *, name: str = "tiny-imagenet", stride: int = 1
) -> ImageSet:
    """Tiny-ImageNet's train (100,000 images) or valid split (10,000).

    stride  keep every stride-th class (in sorted wnid order) and renumber the labels; the named
            subsets tiny-imagenet-100 and tiny-imagenet-50 are strides 2 and 4
    Boxes are xmin, ymin, xmax, ymax in pixels with exclusive maxima (the files' are inclusive).
    Raises MissingDataError or DamagedDataError, naming the folder or the file.
    """
    split = check_split(name, split, ("train", "valid"))
    folder = data_root(root)
    full = _from_cache(_find_source(folder, split, name), split, name)
    if stride == 1:
        return full
    part = full.subset(full.labels % stride == 0)
    return ImageSet(
        name=name,
        split=split,
        images=part.images,
        labels=part.labels // stride,
        classes=full.classes[::stride],
        ids=part.ids,
        boxes=part.boxes,
        fingerprint=f"{full.fingerprint}/{stride}",
    )


load_100 = partial(load, name="tiny-imagenet-100", stride=2)
load_50 = partial(load, name="tiny-imagenet-50", stride=4)


class _Source:
    """Where one split lies: its files, its class names and how to read its rows."""

    def __init__(
        self,
        files: list[Path],
        classes: Callable[[], tuple[str, ...]],
        rows: Callable[[], Iterator[Row]],
    ) -> None:
        self.files, self.classes, self.rows = files, classes, rows

    def fingerprint(self) -> str:
        """sha256 (16 hex digits) of names, sizes and both ends of every file."""
        digest = hashlib.sha256(f"tiny-imagenet {_CACHE_VERSION}".encode())
        for file in self.files:
            if not file.is_file():
                raise DamagedDataError(f"{file} is missing; unpack tiny-imagenet-200.zip again")
            size = file.stat().st_size
            digest.update(f"{file.name} {size}".encode())
            with file.open("rb") as stream:
                digest.update(stream.read(65536))
                stream.seek(max(0, size - 65536))
                digest.update(stream.read(65536))
        return digest.hexdigest()[:16]


def _find_source(folder: Path, split: str, name: str) -> _Source:
    parquet = sorted(folder.glob(f"tiny-imagenet-{split}*.parquet"))
    if parquet:
        return _Source(
            parquet,
            partial(_tsv_classes, folder / "tiny-imagenet-classes.tsv"),
            partial(_parquet_rows, parquet),
        )
    official = folder if (folder / "wnids.txt").is_file() else folder / "tiny-imagenet-200"
    if (official / "wnids.txt").is_file():
        lists = [official / "wnids.txt"]
        if split == "valid":
            lists.append(official / "val" / "val_annotations.txt")
        else:
            lists += sorted(official.glob("train/*/*_boxes.txt"))
        return _Source(
            lists,
            partial(_official_classes, official),
            partial(_official_rows, official, split),
        )
    state = "holds neither" if folder.is_dir() else "does not exist, so there is neither"
    raise MissingDataError(
        f"{name}: {folder} {state} tiny-imagenet-{split}*.parquet nor tiny-imagenet-200/. "
        "Get tiny-imagenet-200.zip from http://cs231n.stanford.edu/ and unpack it there, or point "
        "TTTLIB_DATA (or root=) at the folder that has it."
    )


def _tsv_classes(path: Path) -> tuple[str, ...]:
    if not path.is_file():
        return tuple(f"class {i}" for i in range(N_CLASSES))
    lines = [line for line in path.read_text().splitlines() if line[:1].isdigit()]
    rows = {int(label): words for label, _, words in (line.split("\t") for line in lines)}
    if sorted(rows) != list(range(len(rows))):
        raise DamagedDataError(f"{path} must number the labels from 0, one a line")
    return tuple(rows[label].split(",")[0] for label in sorted(rows))


def _official_wnids(folder: Path) -> list[str]:
    return sorted((folder / "wnids.txt").read_text().split())


def _official_classes(folder: Path) -> tuple[str, ...]:
    words: dict[str, str] = {}
    if (folder / "words.txt").is_file():
        for line in (folder / "words.txt").read_text().splitlines():
            wnid, _, text = line.partition("\t")
            words[wnid] = text.split(",")[0]
    return tuple(words.get(wnid, wnid) for wnid in _official_wnids(folder))


def _parquet_rows(files: list[Path]) -> Iterator[Row]:
    for file in files:
        try:
            table = pq.ParquetFile(file)
            for batch in table.iter_batches(batch_size=1000):
                boxes = batch.column("bbox").to_pylist() if "bbox" in batch.schema.names else None
                images = batch.column("image").to_pylist()
                for i, (image, label) in enumerate(
                    zip(images, batch.column("label").to_pylist(), strict=True)
                ):
                    yield image["bytes"], label, tuple(boxes[i]) if boxes else None
        except (pa.ArrowInvalid, OSError, KeyError, TypeError) as error:
            raise DamagedDataError(
                f"{file} is truncated or no Tiny-ImageNet parquet file ({error}); fetch it again"
            ) from error


def _official_rows(folder: Path, split: str) -> Iterator[Row]:
    label_of = {wnid: i for i, wnid in enumerate(_official_wnids(folder))}
    entries: Iterator[tuple[Path, Path, str, list[int]]]  # listing, image, wnid, box
    if split == "valid":
        listing = folder / "val" / "val_annotations.txt"
        entries = (
            (listing, folder / "val" / "images" / file, wnid, box)
            for (file, wnid), box in _table(listing, words=2)
        )
    else:
        entries = (
            (listing, listing.parent / "images" / file, wnid, box)
            for wnid in label_of
            for listing in [folder / "train" / wnid / f"{wnid}_boxes.txt"]
            for (file,), box in _table(listing, words=1)
        )
    for listing, path, wnid, (x1, y1, x2, y2) in entries:
        if wnid not in label_of:
            raise DamagedDataError(f"{listing} names {wnid!r}, which wnids.txt does not")
        if not path.is_file():
            raise DamagedDataError(f"{path} is listed but missing; unpack the archive again")
        yield path.read_bytes(), label_of[wnid], (x1, y1, x2, y2)


def _table(path: Path, *, words: int) -> Iterator[tuple[list[str], list[int]]]:
    """Lines of `words` words and the four numbers of a box."""
    if not path.is_file():
        raise DamagedDataError(f"{path} is missing; unpack tiny-imagenet-200.zip again")
    for number, line in enumerate(path.read_text().splitlines(), 1):
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
                "unpack tiny-imagenet-200.zip again"
            )
        yield cells[:words], box


def _from_cache(source: _Source, split: str, name: str) -> ImageSet:
    fingerprint = source.fingerprint()
    folder = cache_root() / "tiny-imagenet" / f"{split}-{fingerprint}"
    if not (folder / "meta.json").is_file():
        _decode(source, folder)
    meta = json.loads((folder / "meta.json").read_text())
    n = meta["n"]
    if (folder / "images.u8").stat().st_size != n * 3 * SIZE * SIZE:
        raise DamagedDataError(f"{folder / 'images.u8'} has a wrong size; delete the folder")
    columns = np.load(folder / "columns.npz")
    images = torch.from_file(
        str(folder / "images.u8"), shared=False, size=n * 3 * SIZE * SIZE, dtype=torch.uint8
    )
    return ImageSet(
        name=name,
        split=split,
        images=images.view(n, 3, SIZE, SIZE),
        labels=torch.from_numpy(columns["labels"]),
        classes=source.classes(),
        ids=torch.arange(n),
        boxes=torch.from_numpy(columns["boxes"]) if "boxes" in columns else None,
        fingerprint=fingerprint,
    )


def _decode(source: _Source, folder: Path) -> None:
    """Decode every JPEG into `folder`, complete or not at all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".decoding-") as temporary:
        work = Path(temporary)
        labels, boxes = [], []
        with (work / "images.u8").open("wb") as stream:
            for i, (jpeg, label, box) in enumerate(
                tqdm(source.rows(), desc=f"decode {folder.name}", unit="image")
            ):
                stream.write(_pixels(jpeg, i, source.files[0]))
                labels.append(label)
                if box is not None:
                    boxes.append((box[0], box[1], box[2] + 1, box[3] + 1))
        columns = {"labels": np.asarray(labels, np.int64)}
        if boxes and len(boxes) == len(labels):
            columns["boxes"] = np.asarray(boxes, np.float32)
        if not labels or not 0 <= columns["labels"].min() <= columns["labels"].max() < N_CLASSES:
            raise DamagedDataError(
                f"{source.files[0]}: labels must lie in 0..{N_CLASSES - 1} and there must be rows"
            )
        np.savez(work / "columns.npz", **columns)  # type: ignore[arg-type]
        (work / "meta.json").write_text(json.dumps({"n": len(labels)}))
        target = work / "complete"
        target.mkdir()
        for part in ("images.u8", "columns.npz", "meta.json"):
            os.replace(work / part, target / part)
        try:
            os.replace(target, folder)
        except OSError:  # another process finished the same work first
            if not (folder / "meta.json").is_file():
                raise


def _pixels(jpeg: bytes, index: int, source: Path) -> bytes:
    try:
        image = Image.open(io.BytesIO(jpeg)).convert("RGB")
    except (UnidentifiedImageError, OSError) as error:
        raise DamagedDataError(f"image {index} of {source.parent} cannot be decoded") from error
    if image.size != (SIZE, SIZE):
        raise DamagedDataError(
            f"image {index} of {source.parent} is {image.size[0]}x{image.size[1]}, not 64x64"
        )
    return np.asarray(image).transpose(2, 0, 1).tobytes()  # [3,64,64]
