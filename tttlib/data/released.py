"""The released corrupted files of a clean set, in place of corruptions made here.

`data.load("cifar10+cifar10-c", "test")` is CIFAR-10 whose corrupted versions are those of the
CIFAR-10-C files, matched by the images' ids. The published tables are made from such files: their
noise is another draw than ours, and those of ImageNet went through JPEG once more.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

import torch
from torch import Tensor

from tttlib.data.imageset import ImageSet


class Released:
    """Looks corrupted images up in released files.

    Parameters
    ----------
    name
        Name of the dataset of corrupted files.
    load
        Returns the `ImageSet` of one `corruption` and `severity`; the last few stay open.

    Attributes
    ----------
    preprocess
        How the files are resized, see `image_files`; "" for sets that are served as stored. Known
        once `checked` has opened one.
    """

    def __init__(self, name: str, load: Callable[..., ImageSet]) -> None:
        self.name, self.preprocess = name, ""
        self._opened = lru_cache(16)(lambda c, s: _indexed(load(corruption=c, severity=s)))

    def images(self, corruption: str, severity: float, ids: Tensor) -> Tensor:
        """Return the corrupted images `ids` [B], uint8 [B,3,H,W].

        Raises ValueError for a severity that is no whole number and an id that is not there, and
        what the loader raises for missing or damaged files.
        """
        if severity != int(severity):
            raise ValueError(
                f"{self.name} has severities 1 to 5, not {severity:g}; for those between leave "
                f"'+{self.name}' out, so that corruptions are made here"
            )
        files, at = self._opened(corruption, int(severity))
        return files.images[_places(files, at, ids)]

    def checked(self, clean: ImageSet, corruption: str, severity: int) -> ImageSet:
        """Return `clean` with these files, after comparing labels and sizes with one of them.

        Raises ValueError for other labels or sizes and an id that is not there, and what the
        loader raises.
        """
        files, at = self._opened(corruption, severity)
        self.preprocess = getattr(files.images, "preprocess", "")
        if not torch.equal(files.labels[_places(files, at, clean.ids)], clean.labels):
            raise ValueError(
                f"{self.name} has other labels than {clean.name} for images of the same number: "
                "they do not belong together"
            )
        if files.image_size != clean.image_size:
            raise ValueError(
                f"{self.name} has images of {files.image_size} pixels, {clean.name} of "
                f"{clean.image_size}"
            )
        text = f"{clean.fingerprint} {files.fingerprint}"
        key = hashlib.sha256(text.encode()).hexdigest()[:16]
        name = f"{clean.name}+{self.name}"
        return replace(clean, name=name, fingerprint=key, released=self)


def _indexed(files: ImageSet) -> tuple[ImageSet, dict[int, int]]:
    """Return one file or folder, and where each image is in it."""
    return files, {id_: place for place, id_ in enumerate(files.ids.tolist())}


def _places(files: ImageSet, at: dict[int, int], ids: Tensor) -> Tensor:
    missing = next((id_ for id_ in ids.tolist() if id_ not in at), None)
    if missing is not None:
        raise ValueError(f"{files.name} has no image {missing} ({len(files)} in all)")
    return torch.tensor([at[id_] for id_ in ids.tolist()])
