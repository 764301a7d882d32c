"""Encoded images decoded once, into a uint8 file that is memory-mapped from then on.

The file's name carries the fingerprint of the source, so a changed source is decoded again. A
folder of decoded images is complete or not there at all.
"""

from __future__ import annotations

import io
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm

from tttlib.data.image_files import rgb
from tttlib.data.imageset import DamagedDataError, ImageSet, cache_root
from tttlib.data.lookup import fingerprint

_VERSION = 2  # raise when decoding changes

Row = tuple[bytes, int, tuple[int, int, int, int] | None]  # image file, label, inclusive box


class Source:
    """Where one split of one dataset lies, and how to read its rows.

    dataset  name of the family; names the folder of the decoded images
    files    what the fingerprint is taken from
    size     side of every image in pixels
    classes  gives the names of the C classes
    rows     gives the rows, in the order of the ids
    remedy   ends the message about a missing file
    where    names a row, given its number; for messages
    """

    def __init__(
        self,
        dataset: str,
        files: list[Path],
        size: int,
        classes: Callable[[], tuple[str, ...]],
        rows: Callable[[], Iterator[Row]],
        remedy: str = "fetch it again",
        where: Callable[[int], str] | None = None,
    ) -> None:
        self.dataset, self.files, self.size = dataset, files, size
        self.classes, self.rows, self.remedy = classes, rows, remedy
        self._where = where

    def where(self, index: int) -> str:
        """What to call a row in a message, with the file that holds it."""
        if self._where is not None:
            return self._where(index)
        first = self.files[0]
        return f"image {index} of {first if len(self.files) == 1 else first.parent}"

    def fingerprint(self) -> str:
        """sha256 (16 hex digits) of names, sizes and both ends of every file."""
        return fingerprint(f"{self.dataset} {_VERSION}", self.files, self.remedy)


def load(source: Source, split: str, name: str) -> ImageSet:
    """The split as an `ImageSet`, decoded now if it was not before. Raises DamagedDataError."""
    fingerprint = source.fingerprint()
    classes, side = source.classes(), source.size
    folder = cache_root() / source.dataset / f"{split}-{fingerprint}"
    if not (folder / "meta.json").is_file():
        _decode(source, folder, len(classes))
    n = json.loads((folder / "meta.json").read_text())["n"]
    size = n * 3 * side * side
    if (folder / "images.u8").stat().st_size != size:
        raise DamagedDataError(f"{folder / 'images.u8'} has a wrong size; delete the folder")
    columns = np.load(folder / "columns.npz")
    images = torch.from_file(str(folder / "images.u8"), shared=False, size=size, dtype=torch.uint8)
    return ImageSet(
        name=name,
        split=split,
        images=images.view(n, 3, side, side),
        labels=torch.from_numpy(columns["labels"]),
        classes=classes,
        ids=torch.arange(n),
        boxes=torch.from_numpy(columns["boxes"]) if "boxes" in columns else None,
        fingerprint=fingerprint,
    )


def _decode(source: Source, folder: Path, n_classes: int) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".decoding-") as temporary:
        work = Path(temporary)
        labels, boxes = [], []
        with (work / "images.u8").open("wb") as stream:
            for i, (file, label, box) in enumerate(
                tqdm(source.rows(), desc=f"decode {source.dataset} {folder.name}", unit="image")
            ):
                stream.write(pixels(file, i, source))
                labels.append(label)
                if box is not None:
                    boxes.append((box[0], box[1], box[2] + 1, box[3] + 1))
        columns = {"labels": np.asarray(labels, np.int64)}
        if boxes and len(boxes) == len(labels):
            columns["boxes"] = np.asarray(boxes, np.float32)
        if not labels or not 0 <= columns["labels"].min() <= columns["labels"].max() < n_classes:
            raise DamagedDataError(
                f"{source.files[0]}: labels must lie in 0..{n_classes - 1} and there must be rows"
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


def pixels(file: bytes, index: int, source: Source) -> bytes:
    """The image as RGB bytes [3,size,size]; grey becomes RGB.

    Raises DamagedDataError for an image that cannot be decoded or has another size.
    """
    image = rgb(io.BytesIO(file), lambda: source.where(index), source.remedy)
    if image.size != (source.size, source.size):
        width, height = image.size
        raise DamagedDataError(
            f"{source.where(index)} is {width}x{height}, not {source.size}x{source.size}"
        )
    return np.asarray(image).transpose(2, 0, 1).tobytes()
