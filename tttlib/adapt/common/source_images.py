"""Source images for methods that look at some before the stream."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from tttlib.data import ImageSet


def source_batches(
    source: ImageSet | Iterable[Tensor], images: int, batch_size: int, generator: torch.Generator
) -> Iterator[Tensor]:
    """Yield batches [B,3,H,W]: those that are given, or `images` drawn from an `ImageSet`."""
    if not isinstance(source, ImageSet):
        yield from source
        return
    order = torch.randperm(len(source), generator=generator)[:images]
    for rows in order.split(batch_size):
        yield source.images[rows]
