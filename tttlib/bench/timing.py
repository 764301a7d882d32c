"""Measuring the time of work, and what several rounds say together."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

import torch

from tttlib.runtime.devices import synchronise


def seconds(device: torch.device, work: Callable[[], object], least: float = 0) -> float:
    """Return the seconds of one call of `work`, averaged over calls that take `least` seconds."""
    synchronise(device)
    calls, start = 0, time.perf_counter()
    while True:
        work()
        synchronise(device)
        calls += 1
        passed = time.perf_counter() - start
        if passed >= least:
            return passed / calls


def spread(ratios: Sequence[float]) -> dict[str, float]:
    """Return the median of the rounds as "ratio", and their extremes as "low" and "high"."""
    return {"ratio": statistics.median(ratios), "low": min(ratios), "high": max(ratios)}
