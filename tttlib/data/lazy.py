"""Images that are made when asked for, and indexing them as one indexes a tensor."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor


class Lazy(ABC):
    """uint8 images [N,3,H,W] made on indexing; they stand where an `ImageSet` has its tensor."""

    dtype, ndim = torch.uint8, 4

    @property
    @abstractmethod
    def shape(self) -> torch.Size:
        """The shape [N,3,H,W]."""

    @abstractmethod
    def make(self, where: Tensor) -> Tensor:
        """Make the images at positions `where`, int64 [M]."""

    @abstractmethod
    def select(self, where: Tensor) -> Lazy:
        """Return the images at positions `where`, int64 [M], not yet made."""

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> Tensor:
        """Return the image at one position, [3,H,W], or those at several, [M,3,H,W]."""
        where = positions(index, len(self))
        return self.make(where) if where.ndim else self.make(where[None])[0]


class CorruptedFiles(Protocol):
    """Where the corrupted versions of a set's images are looked up."""

    name: str
    preprocess: str

    def images(self, corruption: str, severity: float, ids: Tensor) -> Tensor:
        """Return the images of these ids [B], uint8 [B,3,H,W]."""


def take(images: Tensor | Lazy, where: Tensor) -> Any:
    """Return the images at positions `where`, int64 [M]; lazy ones stay lazy."""
    return images[where] if isinstance(images, Tensor) else images.select(where)


def positions(index: Any, n: int) -> Tensor:
    """Turn what a tensor of length `n` may be indexed with into positions.

    Parameters
    ----------
    index
        A whole number, a slice, whole numbers or truth values, in Python's, NumPy's or torch's
        types.
    n
        Number of images.

    Returns
    -------
    Tensor
        int64 [M] with values 0 … n-1, or [] for a single number.

    Raises
    ------
    IndexError
        For a position outside, and for numbers that are not whole.
    """
    if isinstance(index, slice):
        return torch.arange(n)[index]
    where = torch.as_tensor(index if isinstance(index, Tensor) else np.asarray(index))
    if where.numel() == 0 and where.dtype != torch.bool:
        where = where.long()
    if where.is_floating_point() or where.is_complex():
        raise IndexError(f"images are indexed with whole numbers or truth values, not {index!r}")
    return torch.arange(n)[where if where.dtype == torch.bool else where.long()]
