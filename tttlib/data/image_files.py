"""Encoded image files served as one lazy tensor, under a named preprocessing.

The variants differ by up to 3.5 points of ImageNet-C error, so the name is part of the fingerprint:

    to_tensor           the pixels as they are; every file must have the declared size
    resize256-bilinear  shorter side to 256, then the central 224x224 (CoTTA, RobustBench)
    resize256-bicubic   the same with the other filter (TTT-MAE; evaluation of most ImageNet models)

Resizing is PIL's, which filters before it shrinks (torchvision's `Resize` of a PIL image).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tttlib.data.imageset import DamagedDataError
from tttlib.data.lookup import unreadable

_FILTERS = {
    "resize256-bilinear": Image.Resampling.BILINEAR,
    "resize256-bicubic": Image.Resampling.BICUBIC,
}
PREPROCESS = ("to_tensor", *_FILTERS)
CROP = 224
_SHORT = 256
DECODERS = min(8, os.cpu_count() or 1)  # threads; decoding releases the interpreter's lock
ENDS_READ = 10_000
"""Files of a set of which the fingerprint reads the ends; of more it takes the sizes alone."""


class FileImages:
    """`Lazy` images (see `corrupted`) that are decoded from their files on indexing.

    paths       of the N files
    preprocess  one of `PREPROCESS`
    size        side in pixels that every file must have; only for to_tensor
    remedy      ends the message about a damaged file
    Raises ValueError for a wrong variant or size; indexing raises DamagedDataError naming the file.
    """

    dtype, ndim = torch.uint8, 4

    def __init__(
        self,
        paths: Sequence[Path],
        preprocess: str = "to_tensor",
        size: int | None = None,
        remedy: str = "unpack it again",
    ) -> None:
        if preprocess not in PREPROCESS:
            raise ValueError(
                f"unknown preprocess {preprocess!r}; known are {', '.join(PREPROCESS)}"
            )
        if preprocess == "to_tensor" and (size is None or size < 1):
            raise ValueError(f"to_tensor needs the images' size in pixels, not {size}")
        if preprocess != "to_tensor" and size not in (None, CROP):
            raise ValueError(f"{preprocess} gives images of {CROP} pixels, not {size}; omit size")
        self.paths, self.preprocess, self.remedy = list(paths), preprocess, remedy
        self.size = CROP if size is None else size

    @property
    def shape(self) -> torch.Size:
        return torch.Size((len(self.paths), 3, self.size, self.size))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int | slice | Tensor | Sequence[int]) -> Tensor:
        """The images at one position [3,H,W], or at several [M,3,H,W]."""
        if isinstance(index, int):
            return self._decode(self.paths[index])
        where = torch.arange(len(self))[index].tolist()
        images = torch.empty((len(where), *self.shape[1:]), dtype=torch.uint8)
        with ThreadPoolExecutor(DECODERS) as pool:
            for i, image in enumerate(pool.map(self._decode, [self.paths[k] for k in where])):
                images[i] = image
        return images

    def select(self, where: Tensor) -> FileImages:
        """The files at positions `where`, int64 [M], not yet decoded."""
        paths = [self.paths[i] for i in where.tolist()]
        return FileImages(paths, self.preprocess, self.size, self.remedy)

    def fingerprint(self, key: str) -> str:
        """Identifies the variant and the files by names, folders, sizes and ends (16 hex digits).

        The end is the last 4 KiB, where a PNG has the checksum of all its pixels; of more than
        `ENDS_READ` files it is not read, because a disk may need minutes for it.
        Raises DamagedDataError for a file that is missing, empty or cannot be read.
        """
        digest = hashlib.sha256(f"{key} {self.preprocess} {self.size}".encode())
        look = self._size if len(self) > ENDS_READ else self._size_and_end
        with ThreadPoolExecutor(DECODERS) as pool:
            for path, seen in zip(self.paths, pool.map(look, self.paths), strict=True):
                digest.update(f"{path.parent.name}/{path.name} {seen}\n".encode())
        return digest.hexdigest()[:16]

    def _size(self, path: Path) -> str:
        try:
            length = path.stat().st_size
        except FileNotFoundError as error:
            raise DamagedDataError(f"{path} is missing; {self.remedy}") from error
        except OSError as error:
            raise unreadable(path, error) from error
        if length == 0:
            raise DamagedDataError(f"{path} is empty (0 bytes); {self.remedy}")
        return str(length)

    def _size_and_end(self, path: Path) -> str:
        length = self._size(path)
        try:
            with path.open("rb") as file:
                file.seek(max(0, int(length) - 4096))
                return f"{length} {hashlib.sha256(file.read()).hexdigest()}"
        except OSError as error:
            raise unreadable(path, error) from error

    def _decode(self, path: Path) -> Tensor:
        image = rgb(path, str(path), self.remedy)
        if self.preprocess != "to_tensor":
            image = central(image, _FILTERS[self.preprocess])
        elif image.size != (self.size, self.size):
            width, height = image.size
            raise DamagedDataError(
                f"{path} is {width}x{height}, not {self.size}x{self.size}; {self.remedy}, "
                f"or choose another preprocess ({', '.join(_FILTERS)})"
            )
        return torch.from_numpy(np.array(image)).permute(2, 0, 1)  # [H,W,3] -> [3,H,W]


def rgb(file: Path | IO[bytes], where: str | Callable[[], str], remedy: str) -> Image.Image:
    """The decoded image, grey and CMYK as RGB. Raises DamagedDataError that begins with `where`."""
    try:
        with Image.open(file) as image:
            return image.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        named = where if isinstance(where, str) else where()
        raise DamagedDataError(f"{named} cannot be decoded ({error}); {remedy}") from error


def central(image: Image.Image, resample: Any) -> Image.Image:
    """The shorter side to 256 pixels (the longer truncated), then the central 224x224."""
    width, height, left, top = geometry(*image.size)
    resized = image.resize((width, height), resample)
    return resized.crop((left, top, left + CROP, top + CROP))


def geometry(width: int, height: int) -> tuple[int, int, int, int]:
    """What `central` does to an image: its size once resized, left and top edge of the crop."""
    short = min(width, height)
    width, height = (int(_SHORT * side / short) for side in (width, height))
    left, top = (round((side - CROP) / 2) for side in (width, height))
    return width, height, left, top
