"""A corrupted view of an image set: made when asked for, or kept on disk as one memory map."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from tttlib import corruptions

_AT_ONCE = 256  # images


class Lazy(Protocol):
    """uint8 [N,3,H,W] that is made on indexing; stands where an `ImageSet` has its tensor."""

    dtype: torch.dtype
    ndim: int

    @property
    def shape(self) -> torch.Size: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: Any, /) -> Tensor: ...

    def select(self, where: Tensor, /) -> Lazy:
        """The images at positions `where`, int64 [M], not yet made."""


def take(images: Tensor | Lazy, where: Tensor) -> Any:
    """The images at positions `where`, int64 [M]; lazy ones stay lazy."""
    return images[where] if isinstance(images, Tensor) else images.select(where)


class LazyImages:
    """`Lazy` images that are corrupted on indexing.

    source  uint8 [N,3,H,W], a tensor or another lazy one
    ids     int64 [N]
    """

    dtype, ndim = torch.uint8, 4

    def __init__(
        self, source: Tensor | Lazy, ids: Tensor, name: str, severity: float, seed: int
    ) -> None:
        self.source, self.ids = source, ids
        self.name, self.severity, self.seed = name, severity, seed

    @property
    def shape(self) -> torch.Size:
        return self.source.shape

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int | slice | Tensor) -> Tensor:
        """The images at one position [3,H,W], or at several [M,3,H,W]."""
        if isinstance(index, int):
            return self[torch.tensor([index])][0]
        return corruptions.corrupt(
            self.source[index], self.name, self.severity, ids=self.ids[index], seed=self.seed
        )

    def select(self, where: Tensor) -> LazyImages:
        """The view of these positions, not yet computed."""
        chosen = take(self.source, where)
        return LazyImages(chosen, self.ids[where], self.name, self.severity, self.seed)

    def fingerprint(self, of_source: str) -> str:
        """Identifies the result's bytes, given the fingerprint of the source (16 hex digits)."""
        ids = hashlib.sha256(self.ids.numpy().tobytes()).hexdigest()
        parts = (corruptions.VERSION, of_source, ids, self.name, float(self.severity), self.seed)
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def kept(lazy: LazyImages, folder: Path, fingerprint: str) -> Tensor:
    """All images as a memory map uint8 [N,3,H,W], computed once; other processes see it whole.

    Raises ValueError for a file of another size.
    """
    path = folder / f"{lazy.name}-{lazy.severity:g}-{fingerprint}.u8"
    size = len(lazy) * int(np.prod(lazy.shape[1:]))
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=folder, prefix=".corrupting-")
        try:
            with os.fdopen(descriptor, "wb") as stream:
                for start in tqdm(range(0, len(lazy), _AT_ONCE), desc=path.stem, leave=False):
                    stream.write(lazy[start : start + _AT_ONCE].contiguous().numpy().tobytes())
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    if path.stat().st_size != size:
        raise ValueError(f"{path} has a wrong size; delete it")
    return torch.from_file(str(path), shared=False, size=size, dtype=torch.uint8).view(lazy.shape)
