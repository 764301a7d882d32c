"""Images per second of `corruptions.corrupt` and of one image at a time, in one run.

Both get the same photographs and the same two threads. Rounds alternate, so that a disturbance of
the machine meets both; the ratio is the median over rounds.
"""

from __future__ import annotations

import logging
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import torch

from tttlib import corruptions
from tttlib.devices import best_device
from tttlib.photographs import pictures

log = logging.getLogger(__name__)

SIZES = (32, 64, 224)
BATCH = 64
SEVERITY = 3
_CPU = torch.device("cpu")
_ROUND_SECONDS = 0.3  # at least, for each of the two


def bench_corruptions(
    sizes: Sequence[int] = SIZES,
    names: Sequence[str] = corruptions.NAMES + corruptions.EXTRA_NAMES,
    rounds: int = 3,
) -> Iterator[dict[str, float | str]]:
    """One row per size and corruption: images/s of both, their ratio with its extremes."""
    device = best_device()
    for size in sizes:
        images = pictures(size, BATCH).to(device)
        arrays = list(images.movedim(1, -1).contiguous().cpu().numpy())
        for name in names:
            ours = _timer(partial(corruptions.corrupt, images, name, SEVERITY), device)
            plain = _timer(partial(_one_image, arrays, name, np.random.RandomState(0)), _CPU)
            ours(), plain()  # warm up
            pairs = [(BATCH / ours(), 1 / plain()) for _ in range(rounds)]
            ratios = [a / b for a, b in pairs]
            yield {
                "size": size,
                "corruption": name,
                "ours": statistics.median(a for a, _ in pairs),
                "plain": statistics.median(b for _, b in pairs),
                "ratio": statistics.median(ratios),
                "low": min(ratios),
                "high": max(ratios),
            }


def _one_image(arrays: list[np.ndarray], name: str, random: np.random.RandomState) -> None:
    from tttlib.plain import corruptions as plain_corruptions  # needs OpenCV

    plain_corruptions.corrupt(arrays[random.randint(len(arrays))], name, SEVERITY, random)


def time_one_image(
    arrays: list[np.ndarray], name: str, severity: int = SEVERITY, seconds: float = 0.15
) -> float | None:
    """Seconds for an image of the plain form on one core; None where OpenCV is missing."""
    try:
        import cv2

        from tttlib.plain import corruptions as plain_corruptions
    except ImportError:
        return None
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    random = np.random.RandomState(0)
    try:
        plain_corruptions.corrupt(arrays[0], name, severity, random)  # warms up
        calls, start = 0, time.perf_counter()
        while time.perf_counter() - start < seconds:
            plain_corruptions.corrupt(arrays[calls % len(arrays)], name, severity, random)
            calls += 1
        return (time.perf_counter() - start) / calls
    finally:
        cv2.setNumThreads(before)


def report(rows: Iterator[dict[str, float | str]]) -> None:
    """Log the rows as they come, then the geometric mean of the ratios of each size."""
    found: dict[int, list[float]] = {}
    for row in rows:
        found.setdefault(int(row["size"]), []).append(float(row["ratio"]))
        log.info(
            "%(size)3d %(corruption)-18s ours %(ours)9.1f images/s, plain %(plain)9.1f, "
            "ratio %(ratio)6.1f (%(low).1f to %(high).1f)",
            row,
        )
    for size, ratios in found.items():
        mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
        log.info("%3d geometric mean of %d ratios: %.1f", size, len(ratios), mean)


def _timer(work: Callable[[], object], device: torch.device) -> Callable[[], float]:
    """Seconds per call, averaged over enough calls to be measured."""

    def measure() -> float:
        calls, start = 0, time.perf_counter()
        while True:
            work()
            calls += 1
            if device.type == "cuda":
                torch.cuda.synchronize()
            seconds = time.perf_counter() - start
            if seconds > _ROUND_SECONDS:
                return seconds / calls

    return measure
