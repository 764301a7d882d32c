"""A corrupted view of an image set: made when asked for, or kept on disk as one memory map."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from tqdm.auto import tqdm

from tttlib import corruptions
from tttlib.data import mapped
from tttlib.data.lazy import Lazy, take

_AT_ONCE = 256  # images


class LazyImages(Lazy):
    """`Lazy` images that are corrupted on indexing.

    Parameters
    ----------
    source
        uint8 [N,3,H,W], a tensor or lazy images.
    ids
        int64 [N]; with `seed` they decide the random fields.
    name, severity, seed
        As in `tttlib.corruptions.corrupt`.
    """

    def __init__(
        self, source: Tensor | Lazy, ids: Tensor, name: str, severity: float, seed: int
    ) -> None:
        self.source, self.ids = source, ids
        self.name, self.severity, self.seed = name, severity, seed

    @property
    def shape(self) -> torch.Size:
        """The shape [N,3,H,W]."""
        return self.source.shape

    def make(self, where: Tensor) -> Tensor:
        """Corrupt the images at these positions."""
        return corruptions.corrupt(
            self.source[where], self.name, self.severity, ids=self.ids[where], seed=self.seed
        )

    def select(self, where: Tensor) -> LazyImages:
        """Return the view of these positions, not yet computed."""
        chosen = take(self.source, where)
        return LazyImages(chosen, self.ids[where], self.name, self.severity, self.seed)

    def fingerprint(self, of_source: str) -> str:
        """Identify the result's bytes in 16 hex digits, given the fingerprint of the source."""
        ids = hashlib.sha256(self.ids.numpy().tobytes()).hexdigest()
        parts = (corruptions.VERSION, of_source, ids, self.name, float(self.severity), self.seed)
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def kept(lazy: LazyImages, folder: Path, fingerprint: str) -> Tensor:
    """Return all images as a memory map, uint8 [N,3,H,W], computed only once."""
    path = folder / f"{lazy.name}-{lazy.severity:g}-{fingerprint}.u8"

    def parts() -> Iterator[bytes]:
        for start in tqdm(range(0, len(lazy), _AT_ONCE), desc=path.stem, leave=False):
            yield lazy[start : start + _AT_ONCE].contiguous().numpy().tobytes()

    return mapped.kept(path, tuple(lazy.shape), parts)
