"""Floating-point operations of a piece of work, in matrix products and convolutions."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode


def count(work: Callable[[], object]) -> int:
    """Run `work` once and return the floating-point operations of its products and convolutions."""
    mapping = {torch.ops.aten.baddbmm_: _in_place}
    with FlopCounterMode(display=False, custom_mapping=mapping) as counter:
        work()
    return counter.get_total_flops()


def _in_place(out: torch.Size, a: torch.Size, b: torch.Size, **_: object) -> int:
    """Return the FLOPs of out [S,n,m] += a [S,n,k] b [S,k,m], which the counter does not know."""
    return 2 * a[0] * a[1] * a[2] * b[2]
