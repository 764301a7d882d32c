"""Images per second of `corruptions.corrupt` and of the corruptions one image at a time.

Both get the same photographs and the same threads. Rounds alternate, so that a disturbance of the
machine meets both, and the ratio is the median over the rounds.
"""

from __future__ import annotations

import logging
import statistics
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import torch

from tttlib import corruptions
from tttlib.bench.timing import seconds, spread
from tttlib.data.photographs import pictures
from tttlib.runtime.devices import best_device

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
    """Yield a row per size and corruption: images/s of both, and their ratio with its extremes."""
    device = best_device()
    for size in sizes:
        images = pictures(size, BATCH).to(device)
        arrays = list(images.movedim(1, -1).contiguous().cpu().numpy())
        for name in names:
            batch = partial(corruptions.corrupt, images, name, SEVERITY)
            single = partial(_one_image, arrays, name, np.random.RandomState(0))
            works = ((device, batch), (_CPU, single))
            every = [
                [seconds(at, work, _ROUND_SECONDS) for at, work in works] for _ in range(rounds + 1)
            ]
            ours, plain = zip(*every[1:], strict=True)  # the first round warms up
            rates = {"ours": BATCH / statistics.median(ours), "plain": 1 / statistics.median(plain)}
            ratios = spread([BATCH * b / a for a, b in zip(ours, plain, strict=True)])
            yield {"size": size, "corruption": name, **rates, **ratios}


def _one_image(arrays: list[np.ndarray], name: str, random: np.random.RandomState) -> None:
    from tttlib.reference import corruptions as plain_corruptions  # needs OpenCV

    plain_corruptions.corrupt(arrays[random.randint(len(arrays))], name, SEVERITY, random)


def time_one_image(arrays: list[np.ndarray], name: str, least: float = 0.15) -> float | None:
    """Return the seconds for an image of the plain form on one core; None without OpenCV."""
    try:
        import cv2
    except ImportError:
        return None
    single = partial(_one_image, arrays, name, np.random.RandomState(0))
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        single()  # warms up
        return seconds(_CPU, single, least)
    finally:
        cv2.setNumThreads(threads)


def report(rows: Iterator[dict[str, float | str]]) -> None:
    """Log the rows as they come, and then the geometric mean of the ratios of each size."""
    ratios: dict[int, list[float]] = {}
    for row in rows:
        ratios.setdefault(int(row["size"]), []).append(float(row["ratio"]))
        log.info(
            "%(size)3d %(corruption)-18s ours %(ours)9.1f images/s, plain %(plain)9.1f, "
            "ratio %(ratio)6.1f (%(low).1f to %(high).1f)",
            row,
        )
    for size, values in ratios.items():
        mean = statistics.geometric_mean(values)
        log.info("%3d geometric mean of %d ratios: %.1f", size, len(values), mean)
