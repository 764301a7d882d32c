"""How time and memory grow with images, steps, masks, classes and pixels.

Every quantity is doubled a few times while the others stay. What is linear must have an exponent of
one: twice as many images take twice as long. Rounds go through all sizes in turn, so that a
disturbance of the machine meets all; each round gives one exponent (the slope of log time over log
size), and the interval is that of Student's t over the rounds. Memory is the largest rise above
what a process of its own held before the work, and says little below some MB.
"""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from tttlib import adapt, corruptions, plots, statistics, ttt
from tttlib.bench.timing import seconds
from tttlib.models import zoo
from tttlib.runtime import memory
from tttlib.runtime.devices import best_device

log = logging.getLogger(__name__)

ROUNDS = 5
_ROUND_SECONDS = 0.2  # at least, for each size


@dataclass(frozen=True)
class Quantity:
    """Something that grows.

    Attributes
    ----------
    sizes
        What it is set to, rising.
    work
        Maps a device and a size to a piece of work of that size.
    exponent
        Of the time, expected.
    """

    sizes: tuple[int, ...]
    work: Callable[[torch.device, int], Callable[[], object]]
    exponent: float = 1.0


def _ttt(
    device: torch.device, size: int, *, what: str, images: int = 4, steps: int = 4, masks: int = 8
) -> Callable[[], object]:
    """Return test-time training with one of "images", "steps", "masks", "pixels" set to `size`."""
    given = {"images": images, "steps": steps, "masks": masks, "pixels": 32**2, what: size}
    torch.manual_seed(0)
    side = round(given["pixels"] ** 0.5)
    model = zoo.create("scenes", img_size=side).to(device).eval()
    batch = torch.rand(given["images"], 3, side, side, device=device)
    how: dict[str, Any] = {"lr": 1e-3, "parallel": 4, "evaluate_at": (given["steps"],)}
    return partial(ttt.run, model, batch, steps=given["steps"], batch_size=given["masks"], **how)


def _palm(device: torch.device, size: int, *, what: str) -> Callable[[], object]:
    """Return a batch for PALM with "images" or "classes" set to `size`."""
    given = {"images": 32, "classes": 10, what: size}
    torch.manual_seed(0)
    model = zoo.create("wrn-16-2", num_classes=given["classes"]).to(device).eval()
    adapter = adapt.create("palm", model)
    return partial(adapter, torch.rand(given["images"], 3, 32, 32, device=device))


def _blurred(device: torch.device, size: int, *, what: str) -> Callable[[], object]:
    """Return a motion blur with "images" or "pixels" set to `size`."""
    given = {"images": 16, "pixels": 64**2, what: size}
    side = round(given["pixels"] ** 0.5)
    images = torch.randint(256, (given["images"], 3, side, side), dtype=torch.uint8)
    return partial(corruptions.corrupt, images.to(device), "motion_blur", 3)


_DOUBLED = (4, 8, 16, 32, 64)
_SQUARES = tuple(side**2 for side in (32, 48, 64, 96, 128))
QUANTITIES: Mapping[str, Quantity] = {
    "TTT, images": Quantity(_DOUBLED, partial(_ttt, what="images")),
    "TTT, steps": Quantity(_DOUBLED, partial(_ttt, what="steps")),
    "TTT, masks": Quantity(_DOUBLED, partial(_ttt, what="masks")),
    "TTT, pixels": Quantity(_SQUARES, partial(_ttt, what="pixels")),
    "PALM, images": Quantity((16, 32, 64, 128, 256), partial(_palm, what="images")),
    "PALM, classes": Quantity((10, 40, 160, 640), partial(_palm, what="classes"), exponent=0.0),
    "motion blur, images": Quantity(_DOUBLED, partial(_blurred, what="images")),
    "motion blur, pixels": Quantity(
        tuple(side**2 for side in (64, 96, 128, 192, 256)), partial(_blurred, what="pixels")
    ),
}


def bench_growth(
    quantities: Mapping[str, Quantity] = QUANTITIES, rounds: int = ROUNDS
) -> Iterator[dict[str, float | str]]:
    """Yield one row per quantity and size.

    Yields
    ------
    dict
        quantity, size, times (the time over that of the smallest size, median over the rounds),
        memory (MB, 10^6 bytes), and of the quantity its expected and measured exponent with low and
        high (95 %).
    """
    device = best_device()
    for name, quantity in quantities.items():
        works = {size: quantity.work(device, size) for size in quantity.sizes}
        held = {size: _in_own_process(quantity, size) for size in quantity.sizes}
        for work in works.values():
            work()  # warms up
        times = np.array(
            [[seconds(device, w, _ROUND_SECONDS) for w in works.values()] for _ in range(rounds)]
        )  # [rounds, sizes]
        slope = statistics.mean_of_few(exponents(quantity.sizes, times))
        for size, ratios in zip(quantity.sizes, (times / times[:, :1]).T, strict=True):
            yield {
                "quantity": name,
                "size": size,
                "times": float(np.median(ratios)),
                "memory": held[size] / 1e6,
                "expected": quantity.exponent,
                "exponent": slope.mean,
                "low": slope.low,
                "high": slope.high,
            }


def exponents(sizes: Sequence[float], times: np.ndarray) -> list[float]:
    """Return the slope of log time over log size in each round; `times` is [rounds, sizes]."""
    return [float(np.polyfit(np.log(sizes), np.log(row), 1)[0]) for row in times]


def _in_own_process(quantity: Quantity, size: int) -> int:
    """Return `peak` of a process that does nothing else; this one keeps what it has freed."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(peak, quantity, size).result()


def peak(quantity: Quantity, size: int) -> int:
    """Return the bytes by which the work of a size rises above what is held before it."""
    device = best_device()
    work = quantity.work(device, size)
    start = memory.now(device)
    memory.reset_peak(device)
    work()
    return max(0, memory.peak(device) - start)


def report(rows: Iterator[dict[str, float | str]], out: Path) -> pd.DataFrame:
    """Log a line for each quantity, and write `<out>/tables/bench_growth.csv` and the figure."""
    table = pd.DataFrame(rows)
    for name, part in table.groupby("quantity", sort=False):
        line = "%s: exponent %.2f [%.2f, %.2f], expected %g; %.0f to %.0f MB"
        numbers = part.iloc[0][["exponent", "low", "high", "expected"]]
        log.info(line, name, *numbers, part["memory"].iloc[0], part["memory"].iloc[-1])
    caption = (
        "Time over that of the smallest size, and the exponent of time over size with its 95 % "
        "interval over rounds; memory in MB above what the process held."
    )
    plots.save_table(table.round(4), out, "bench_growth", caption)
    plots.save(plots.growth(table), out, "bench_growth", caption)
    return table
