"""A memory of the last rows of a stream: a tensor [size,...] written round and round."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def next_places(memory: dict[str, Any], pointer: str, rows: int, ring: str) -> Tensor:
    """Return where the last of `rows` rows go in `memory[ring]`, and move `memory[pointer]`.

    If there are more rows than places, only the last ones get one.
    """
    size, start = len(memory[ring]), memory[pointer]
    memory[pointer] = start + rows
    first = start + rows - min(rows, size)
    return torch.arange(first, start + rows, device=memory[ring].device) % size


def replace(ring: Tensor, places: Tensor, rows: Tensor, good: Tensor) -> None:
    """Write the last rows into their places; where `good` is false the old row stays."""
    old = ring[places]
    wide = good.view(-1, *[1] * (rows.ndim - 1))
    ring.index_copy_(0, places, torch.where(wide, rows[-len(places) :], old))
