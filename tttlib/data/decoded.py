"""Encoded images decoded once, into a uint8 file that is memory-mapped from then on.

The folder of the decoded images is named after the fingerprint of their source, so a changed source
is decoded again. It is complete or not there at all, and one that was damaged is made again.
"""

from __future__ import annotations

import io
import logging
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm

from tttlib.data import contents, image_files, mapped, rgb
from tttlib.data.imageset import ImageSet
from tttlib.runtime.errors import DamagedDataError
from tttlib.runtime.files import atomic_write
from tttlib.runtime.paths import cache_root

log = logging.getLogger(__name__)

_VERSION = 3  # raise when decoding changes

_DAMAGES = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)

# an image file and what to call it in a message, its label, its inclusive box
Row = tuple[bytes, str, int, tuple[int, int, int, int] | None]


@dataclass(frozen=True)
class Source:
    """Where one split of one dataset lies, and how to read its rows.

    Attributes
    ----------
    dataset
        Name of the family; it names the folder of the decoded images.
    files
        Files to name in messages.
    size
        Side of every image in pixels.
    classes
        Returns the names of the C classes.
    rows
        Returns the rows, in the order of the ids.
    remedy
        Ends the message about a missing file.
    images
        Returns the image files that the rows are read from beside `files`.
    formats
        Formats in which the images may be stored.
    upright
        Whether to turn images as their EXIF orientation says.
    preprocess
        One of `tttlib.boxes.PREPROCESS`, see `image_files`.
    """

    dataset: str
    files: list[Path]
    size: int
    classes: Callable[[], tuple[str, ...]]
    rows: Callable[[], Iterator[Row]]
    remedy: str = "fetch it again"
    images: Callable[[], Sequence[Path]] = list
    formats: Sequence[str] = rgb.FORMATS
    upright: bool = False
    preprocess: str = "to_tensor"

    def fingerprint(self, *, reread: bool = False) -> str:
        """Identify everything that is served, see `contents.fingerprint`."""
        key = f"{self.dataset} {_VERSION} {rgb.VERSION} {self.size} {self.classes()}"
        key += f" {self.preprocess}" if self.preprocess != "to_tensor" else ""
        files = [*self.files, *self.images()]
        return contents.fingerprint(key, files, self.remedy, reread=reread, allow_empty=True)

    def folder(self, split: str) -> Path:
        """Return the folder of the decoded images, there or not."""
        return cache_root() / self.dataset / f"{split}-{self.fingerprint()}"

    def decode(self, file: bytes, where: str) -> bytes:
        """Decode an image file as RGB bytes [3,size,size].

        Raises DamagedDataError, which begins with `where`, for one that cannot be decoded or has
        another size.
        """
        as_it_is = self.preprocess == "to_tensor"
        image = rgb.decode(
            io.BytesIO(file), where, self.remedy, size=self.size if as_it_is else None,
            formats=self.formats, upright=self.upright,
        )  # fmt: skip
        if not as_it_is:
            image = image_files.central(image, image_files.FILTERS[self.preprocess])
        return np.asarray(image).transpose(2, 0, 1).tobytes()


def load(source: Source, split: str, name: str) -> ImageSet:
    """Return the split as an `ImageSet`; it is decoded now if it was not before, or was damaged.

    Raises DamagedDataError for images or labels that cannot be used.
    """
    folder = source.folder(split)
    if folder.is_dir():
        try:
            return _read(source, folder, split, name)
        except _DAMAGES as error:
            log.warning("%s is damaged (%s); its images are decoded again", folder, error)
            shutil.rmtree(folder)
    _decode(source, folder, len(source.classes()))
    return _read(source, folder, split, name)


def verify(source: Source, split: str) -> str:
    """Compare all decoded images with their checksums, after reading the whole source again.

    Returns
    -------
    str
        What happened to a damaged copy, which is removed; empty for an intact one, or none.

    Raises
    ------
    DamagedDataError
        For a source that changed unnoticed, or cannot be read.
    """
    source.fingerprint(reread=True)
    folder = source.folder(split)
    if folder.is_dir():
        try:
            _read(source, folder, split, "", verify=None)
        except _DAMAGES as error:
            shutil.rmtree(folder)
            return f"{split}: the decoded copy was damaged and is removed ({error})"
    return ""


def _read(
    source: Source, folder: Path, split: str, name: str, verify: int | None = mapped.VERIFIED
) -> ImageSet:
    with np.load(folder / "columns.npz") as columns:  # its parts carry checksums of their own
        labels = torch.from_numpy(columns["labels"])
        boxes = torch.from_numpy(columns["boxes"]) if "boxes" in columns else None
    shape = (len(labels), 3, source.size, source.size)
    images = mapped.read(folder / "images.u8", shape, verify=verify)
    classes, ids = source.classes(), torch.arange(len(labels))
    fingerprint = folder.name.removeprefix(f"{split}-")
    return ImageSet(name, split, images, labels, classes, ids, fingerprint, boxes)


def _decode(source: Source, folder: Path, n_classes: int) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".decoding-") as temporary:
        complete = Path(temporary) / "complete"
        complete.mkdir()
        labels: list[int] = []
        boxes: list[tuple[int, int, int, int]] = []

        def parts() -> Iterator[bytes]:
            bar = tqdm(source.rows(), desc=f"decode {source.dataset} {folder.name}", unit="image")
            for file, where, label, box in bar:
                yield source.decode(file, where)
                labels.append(label)
                if box is not None:
                    boxes.append(exclusive(box))

        mapped.write(complete / "images.u8", parts())
        if not labels or not 0 <= min(labels) <= max(labels) < n_classes:
            raise DamagedDataError(
                f"{source.files[0]}: labels must lie in 0..{n_classes - 1} and there must be rows"
            )
        columns = {"labels": np.asarray(labels, np.int64)}
        if len(boxes) == len(labels):
            columns["boxes"] = np.asarray(boxes, np.float32)
        with atomic_write(complete / "columns.npz") as path, path.open("wb") as stream:
            np.savez(stream, **columns)  # type: ignore[arg-type]
        try:
            os.replace(complete, folder)
        except OSError:  # another process finished the same work first
            if not folder.is_dir():
                raise


def exclusive(box: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    """Turn a box whose maxima name the last pixel inside into one with exclusive maxima."""
    return box[0], box[1], box[2] + 1, box[3] + 1
