"""Encoded image files served as one lazy tensor, under a named preprocessing.

The variants differ by up to 3.5 points of ImageNet-C error, so the name is part of the fingerprint:

    to_tensor           the pixels as they are; every file must have the declared size
    resize256-bilinear  shorter side to 256, then the central 224x224 (CoTTA, RobustBench)
    resize256-bicubic   the same with the other filter (TTT-MAE; evaluation of most ImageNet models)

Resizing is PIL's, which filters before it shrinks (torchvision's `Resize` of a PIL image).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tttlib.boxes import CROP, PREPROCESS, geometry
from tttlib.data import contents, rgb
from tttlib.data.contents import READERS
from tttlib.data.lazy import Lazy

FILTERS = {
    "resize256-bilinear": Image.Resampling.BILINEAR,
    "resize256-bicubic": Image.Resampling.BICUBIC,
}


class FileImages(Lazy):
    """`Lazy` images that are decoded from their files on indexing.

    Parameters
    ----------
    paths
        The N files.
    preprocess
        One of `tttlib.boxes.PREPROCESS`.
    size
        Side in pixels that every file must have; only for to_tensor.
    remedy
        Ends the message about a damaged file.
    upright
        Whether to turn images as their EXIF orientation says.

    Raises
    ------
    ValueError
        For a wrong variant or size. Indexing raises DamagedDataError naming the file.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        preprocess: str = "to_tensor",
        size: int | None = None,
        remedy: str = "unpack it again",
        upright: bool = False,
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
        self.size, self.upright = CROP if size is None else size, upright

    @property
    def shape(self) -> torch.Size:
        """The shape [N,3,size,size]."""
        return torch.Size((len(self.paths), 3, self.size, self.size))

    def make(self, where: Tensor) -> Tensor:
        """Decode the images at these positions, several at a time."""
        images = torch.empty((len(where), *self.shape[1:]), dtype=torch.uint8)
        with ThreadPoolExecutor(READERS) as pool:
            paths = [self.paths[i] for i in where.tolist()]
            for i, image in enumerate(pool.map(self._decode, paths)):
                images[i] = image
        return images

    def select(self, where: Tensor) -> FileImages:
        """Return the files at positions `where`, int64 [M], not yet decoded."""
        chosen = copy.copy(self)
        chosen.paths = [self.paths[i] for i in where.tolist()]
        return chosen

    def fingerprint(self, key: str, *, reread: bool = False) -> str:
        """Identify variant and files, see `contents.fingerprint`."""
        variant = f"{key} {self.preprocess} {self.size} {self.upright} {rgb.VERSION}"
        return contents.fingerprint(variant, self.paths, self.remedy, reread=reread)

    def _decode(self, path: Path) -> Tensor:
        if self.preprocess == "to_tensor":
            remedy = f"{self.remedy}, or choose another preprocess ({', '.join(FILTERS)})"
            image = rgb.decode(path, str(path), remedy, size=self.size, upright=self.upright)
        else:
            image = rgb.decode(path, str(path), self.remedy, upright=self.upright)
            image = central(image, FILTERS[self.preprocess])
        return torch.from_numpy(np.array(image)).permute(2, 0, 1)  # [H,W,3] -> [3,H,W]


def central(image: Image.Image, resample: Any) -> Image.Image:
    """Resize the shorter side to 256 pixels (the longer truncated) and cut the central 224x224."""
    width, height, left, top = geometry(*image.size)
    resized = image.resize((width, height), resample)
    return resized.crop((left, top, left + CROP, top + CROP))
