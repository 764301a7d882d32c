"""Floating-point operations of a piece of work, in matrix products and convolutions."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode


def count(work: Callable[[], object]) -> int:
    """FLOPs of `work`, which is run once."""
    mapping = {torch.ops.aten.baddbmm_: _in_place}
    with FlopCounterMode(display=False, custom_mapping=mapping) as counter:
        work()
    return counter.get_total_flops()


def _in_place(out: torch.Size, a: torch.Size, b: torch.Size, **_: object) -> int:
    """FLOPs of out [S,n,m] += a [S,n,k] b [S,k,m]: the counter knows the other form only."""
    return 2 * a[0] * a[1] * a[2] * b[2]
