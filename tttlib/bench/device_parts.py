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
from tttlib.runtime import memory

Rows = Iterator[dict[str, Any]]
METHODS = tuple(name for name in adapt.NAMES if name != "ecotta")  # it needs training images
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_LONGEST = 3.0  # seconds of one timed run of test-time training, above which fewer steps are timed


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
    """Yield the rates of `ttt.run` in both precisions and of the plain loop in float32.

    Both adapt the same images under the same masks.
    """
    peak = {name: roofline.matrix_peak(device, dtype) for name, dtype in _DTYPES.items()}
    for label, preset in size.vits:
        torch.manual_seed(0)
        model = zoo.create(preset).to(device).eval()
        work = partial(ttt_speed._run, model)
        for masks in size.masks:
            flop = roofline.flop(work, masks)
            ttt_speed._plain(model, masks, 1)  # warms up
            plain = statistics.median(ttt_speed._plain(model, masks, size.steps) for _ in range(2))
            plain /= size.steps
            for dtype in _DTYPES:
                row = _ttt_row(model, masks, dtype, size, plain, flop, peak[dtype])
                yield {"network": label, "masks": masks, "dtype": dtype, **row}
        del model
        if device.type == "cuda":
            torch.cuda.empty_cache()


def _ttt_row(
    model: Any, masks: int, dtype: str, size: Size, plain: float, flop: float, peak: float
) -> dict[str, Any]:
    """Return the image-steps per second of the fastest stack, and what share of the peak that is.

    `plain` are the seconds of an image-step in the plain loop, `flop` the operations of one with
    its prediction.
    """
    device = model.cls_token.device
    memory.reset_peak(device)
    time, at_once = ttt_speed._best_stack(model, masks, dtype, 2, size.stack)
    steps = min(size.steps, max(2, int(_LONGEST / (at_once * time / 2))))
    ours = partial(ttt_speed._ours, model, masks, steps, at_once, dtype)
    every, last = (statistics.median(ours(at) for _ in range(2)) / steps for at in (None, (steps,)))
    return {
        "images at once": at_once,
        "steps timed": steps,
        "image steps/s": 1 / every,
        "plain image steps/s": 1 / plain,
        "ratio": plain / every,
        "ratio, predicting last only": plain / last,
        "GFLOP of a step": flop / 1e9,
        "share of peak": flop / every / peak,
        "peak memory, GB": memory.peak(device) / 2**30,
    }


# -- continual adaptation -------------------------------------------------------------------------


def adaptation(device: torch.device, size: Size) -> Rows:
    """Yield every method in forward passes, PALM against its plain form, and the host's waits."""
    for preset, side, batch in size.networks:
        torch.manual_seed(0)
        net = zoo.create(preset).to(device).eval()
        batches = [
            corruptions.corrupt(pictures(side, batch), "glass_blur", s).to(device).float() / 255
            for s in range(1, size.rounds + 2)
        ]
        case = adaptation_speed.Case(preset, batch)
        for row in adaptation_speed._rows(case, net, batches, METHODS):
            name = row["method"]
            waits = float("nan") if name == adaptation_speed.PLAIN else _waits(net, name, batches)
            yield {**row, "waits for the device in a batch": waits}


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
            plain = time_one_image(arrays, name)
            yield {
                "size": side,
                "batch": batch,
                "corruption": name,
                "images/s": rate,
                "one core, images/s": np.nan if plain is None else 1 / plain,
                "ratio": np.nan if plain is None else rate * plain,
            }


PARTS: dict[str, Callable[[torch.device, Size], Rows]] = {
    "peaks": peaks,
    "ttt": test_time_training,
    "palm": adaptation,
    "corruptions": corruption_rates,
}
