"""In which order corrupted test images arrive."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tttlib import corruptions
from tttlib.data import ImageSet

CLEAN = "clean"
"""The domain without a corruption, allowed wherever a corruption's name is."""


@dataclass(frozen=True)
class Batch:
    """B images of one domain, as they arrive.

    images    float32 [B,3,H,W] in [0,1], on the grey levels of 8-bit files
    labels    int64 [B]
    domain    corruption or "clean"
    severity  0 for clean
    index     int64 [B], positions in the dataset
    """

    images: Tensor
    labels: Tensor
    domain: str
    severity: float
    index: Tensor


def continual(
    dataset: ImageSet,
    domains: Sequence[str] = corruptions.NAMES,
    *,
    severity: float = 5,
    batch_size: int,
    seed: int = 0,
) -> Iterator[Batch]:
    """One domain after the other, in the order given; within a domain the dataset's order.

    The corruption of an image depends on its id, the domain, the severity and `seed` alone.
    Raises ValueError for an unknown domain, a severity outside 1..5 or a batch_size below 1, before
    the first batch.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be 1 or more, not {batch_size}")
    for name in domains:
        corrupted(dataset.images[:1], name, severity, ids=dataset.ids[:1], seed=seed)
    return _batches(dataset, domains, severity, batch_size, seed)


def _batches(
    dataset: ImageSet, domains: Sequence[str], severity: float, batch_size: int, seed: int
) -> Iterator[Batch]:
    for name in domains:
        for start in range(0, len(dataset), batch_size):
            index = torch.arange(start, min(start + batch_size, len(dataset)))
            images = corrupted(
                dataset.images[index], name, severity, ids=dataset.ids[index], seed=seed
            )
            yield Batch(
                images=images.float() / 255,
                labels=dataset.labels[index],
                domain=name,
                severity=0.0 if name == CLEAN else float(severity),
                index=index,
            )


def corrupted(
    images: Tensor, name: str, severity: float, *, ids: Tensor | None = None, seed: int = 0
) -> Tensor:
    """`corruptions.corrupt`, with "clean" as the identity."""
    if name == CLEAN:
        return images
    return corruptions.corrupt(images, name, severity, ids=ids, seed=seed)
