"""The parts of the benchmark of one accelerator, each a table that is yielded row by row."""

from __future__ import annotations

import statistics
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from tttlib import adapt, corruptions
from tttlib.bench import adaptation_speed, roofline, ttt_speed
from tttlib.bench.corruption_speed import SEVERITY, time_one_image
from tttlib.bench.timing import seconds
from tttlib.data.photographs import pictures
from tttlib.models import zoo

Rows = Iterator[dict[str, Any]]
_LEFT_OUT = {"source images", "self-supervision"}  # needs that are not met here
METHODS = tuple(
    name
    for name, method in ((name, adapt.METHODS[name]) for name in adapt.NAMES)
    if not _LEFT_OUT & set(method.needs) and name != "memo"  # minutes: an image at a time
)


class Size(NamedTuple):
    """How much is measured."""

    vits: Sequence[tuple[str, str]]  # label, preset
    masks: Sequence[int]
    steps: int
    stack: int  # images that adapt at once, at most
    networks: Sequence[tuple[str, int, int]]  # preset, side of the images, batch
    sides: Sequence[tuple[int, int]]  # side, batch
    rounds: int
    products: Sequence[int]  # sides of square matrices


# -- what the device can do -----------------------------------------------------------------------


def peaks(device: torch.device, size: Size) -> Rows:
    """Yield the rates of matrix products (float32 with and without TF32, bfloat16) and copies."""
    before = torch.get_float32_matmul_precision()
    try:
        for name, dtype, precision in (
            ("float32", torch.float32, "highest"),
            ("TF32", torch.float32, "high"),
            ("bfloat16", torch.bfloat16, "highest"),
        ):
            torch.set_float32_matmul_precision(precision)
            for n in size.products:
                a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
                time = _median_seconds(device, partial(torch.mm, a, b), 7)
                rate = 2 * n**3 / time / 1e12
                yield {"what": f"matrix product, {name}", "n": n, "TFLOP/s": rate}
    finally:
        torch.set_float32_matmul_precision(before)
    yield {"what": "copy, read and written", "TB/s": roofline.copy_bandwidth(device) / 1e12}


def _median_seconds(device: torch.device, work: Callable[[], object], rounds: int) -> float:
    """Return the seconds of `work`, the median of `rounds` after two that warm up."""
    times = [seconds(device, work) for _ in range(rounds + 2)]
    return statistics.median(times[2:])


# -- test-time training ---------------------------------------------------------------------------


def test_time_training(device: torch.device, size: Size) -> Rows:
    """Yield the rates of `ttt.run` and of the plain loop, see `ttt_speed.bench_ttt`."""
    cases = [ttt_speed.Case(label, preset, tuple(size.masks)) for label, preset in size.vits]
    yield from ttt_speed.bench_ttt(cases, 2, size.steps, size.stack)


# -- continual adaptation -------------------------------------------------------------------------


def adaptation(device: torch.device, size: Size) -> Rows:
    """Yield every method in forward passes, PALM against its plain form, and the host's waits."""
    for preset, side, batch in size.networks:
        torch.manual_seed(0)
        net = zoo.create(preset).to(device).eval()
        batches = blurred(device, side, batch, size.rounds + 1)
        case = adaptation_speed.Case(preset, batch)
        for row in adaptation_speed._rows(case, net, batches, METHODS):
            name = row["method"]
            waits = float("nan") if name == adaptation_speed.PLAIN else _waits(net, name, batches)
            yield {**row, "waits for the device in a batch": waits}


def blurred(device: torch.device, side: int, images: int, severities: int) -> list[Tensor]:
    """Return a batch of photographs under glass blur for each severity from 1 on, in [0,1]."""
    clean = pictures(side, images)
    return [
        corruptions.corrupt(clean, "glass_blur", s).to(device).float() / 255
        for s in range(1, severities + 1)
    ]


def _waits(net: Any, method: str, batches: Sequence[Tensor]) -> float:
    """Return how often the third batch makes the host wait for the GPU; nan on a CPU."""
    if batches[0].device.type != "cuda":
        return float("nan")
    adapter = adapt.create(method, net)
    adapter(batches[0])
    adapter(batches[1])
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            adapter(batches[2])
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return float(sum("synchronizing" in str(warning.message) for warning in caught))


# -- corruptions ----------------------------------------------------------------------------------


def corruption_rates(device: torch.device, size: Size) -> Rows:
    """Yield the images per second of `corrupt`, and of one image at a time on one core."""
    for side, batch in size.sides:
        images = pictures(side, batch).to(device)
        arrays = list(images[:16].movedim(1, -1).contiguous().cpu().numpy())
        for name in corruptions.NAMES + corruptions.EXTRA_NAMES:
            work = partial(corruptions.corrupt, images, name, SEVERITY)
            rate = batch / _median_seconds(device, work, size.rounds)
            plain = time_one_image(arrays, name) or np.nan  # seconds; none without OpenCV
            row = {"size": side, "batch": batch, "corruption": name, "images/s": rate}
            yield {**row, "one core, images/s": 1 / plain, "ratio": rate * plain}


PARTS: dict[str, Callable[[torch.device, Size], Rows]] = {
    "peaks": peaks,
    "ttt": test_time_training,
    "palm": adaptation,
    "corruptions": corruption_rates,
}
