"""One accelerator in a few minutes: what it can do, and what the library makes of it.

Parts in the order of their worth, each a table of its own, so that a run which is cut off or
started again loses one part at most. On a CPU the same parts run at a size that takes seconds.
"""

from __future__ import annotations

import logging
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from tttlib import adapt, corruptions, environment, memory
from tttlib.bench import palm, ttt
from tttlib.bench.corruptions import time_one_image
from tttlib.devices import best_device
from tttlib.models import zoo
from tttlib.photographs import pictures

log = logging.getLogger(__name__)

Rows = Iterator[dict[str, Any]]
MASKS = (1, 8, 32, 128)
NO_SOURCE = tuple(name for name in adapt.NAMES if name != "ecotta")  # it needs images of training
SEVERITY = 3
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


FULL = Size(
    (("ViT-S/16 at 224", "small"), ("ViT-L/16 at 224", "large")),
    MASKS,
    10,
    16,
    (("wrn-28-10", 32, 200), ("resnet-50", 224, 64)),
    ((32, 4096), (64, 2048), (224, 256)),
    3,
    (2048, 4096, 8192, 16384),
)
TINY = Size(
    (("scenes", "scenes"),), (1, 2), 2, 2, (("wrn-10-1", 32, 8),), ((32, 16),), 2, (256, 512)
)


def bench_device(
    out: Path, parts: Sequence[str] | None = None, size: Size | None = None
) -> dict[str, pd.DataFrame]:
    """Run the parts that `out` does not hold yet and return all their tables.

    Parameters
    ----------
    out
        Folder; part NAME is written to `<out>/tables/device_NAME.csv`, row by row to a file with
        another ending until it is complete.
    parts
        Names of `PARTS`; default: all, in their order.
    size
        Default: `FULL` on a GPU, `TINY` on a CPU.

    Raises
    ------
    ValueError
        For an unknown part.
    """
    device = best_device()
    size = size or (FULL if device.type == "cuda" else TINY)
    wanted = list(PARTS) if parts is None else list(parts)
    if unknown := [name for name in wanted if name not in PARTS]:
        raise ValueError(f"unknown parts {', '.join(unknown)}; known are {', '.join(PARTS)}")
    folder = out / "tables"
    folder.mkdir(parents=True, exist_ok=True)
    tables = {}
    for name in wanted:
        path = folder / f"device_{name}.csv"
        if not path.is_file():
            unfinished, start = path.with_suffix(".part"), time.perf_counter()
            rows: list[dict[str, Any]] = []
            for row in PARTS[name](device, size):
                rows.append({"device": environment.describe()["device"], **row})
                log.info("%s: %s", name, _words(row))
                pd.DataFrame(rows).to_csv(unfinished, index=False)
            unfinished.replace(path)
            log.info("%s: %.0f s", name, time.perf_counter() - start)
        tables[name] = pd.read_csv(path)
    return tables


def _words(row: dict[str, Any]) -> str:
    shown = (f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items())
    return ", ".join(shown)


# -- what the device can do -----------------------------------------------------------------------


def _peaks(device: torch.device, size: Size) -> Rows:
    """Matrix products in float32 with and without TF32 and in bfloat16, and copies."""
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
                seconds = median_seconds(device, partial(torch.mm, a, b), 7)
                yield {
                    "what": f"matrix product, {name}",
                    "n": n,
                    "TFLOP/s": 2 * n**3 / seconds / 1e12,
                }
    finally:
        torch.set_float32_matmul_precision(before)
    yield {"what": "copy, read and written", "TB/s": ttt.copy_bandwidth(device) / 1e12}


def median_seconds(device: torch.device, work: Callable[[], object], rounds: int) -> float:
    """Seconds of `work`, the median of `rounds` after two to warm up."""
    times = [ttt._seconds(device, work) for _ in range(rounds + 2)]
    return statistics.median(times[2:])


# -- test-time training ---------------------------------------------------------------------------


def _ttt(device: torch.device, size: Size) -> Rows:
    """`ttt.run` in both precisions against the plain loop in float32, the same images and masks."""
    peaks = {
        name: ttt.matrix_peak(device, dtype)
        for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16))
    }
    for label, preset in size.vits:
        torch.manual_seed(0)
        model = zoo.create(preset).to(device).eval()
        flop = _flop_by_masks(partial(ttt._run_one, model))
        for masks in size.masks:
            ttt._plain(model, masks, 1)  # warms up
            plain = statistics.median(ttt._plain(model, masks, size.steps) for _ in range(2))
            plain /= size.steps
            for dtype in ("float32", "bfloat16"):
                yield {
                    "network": label,
                    "masks": masks,
                    "dtype": dtype,
                    **_ttt_row(model, masks, dtype, size, plain, flop(masks), peaks[dtype]),
                }
        del model
        if device.type == "cuda":
            torch.cuda.empty_cache()


def _ttt_row(
    model: Any, masks: int, dtype: str, size: Size, plain: float, flop: float, peak: float
) -> dict[str, Any]:
    """Image-steps per second of the fastest stack, and what share of the peak that is.

    plain  seconds of an image-step in the plain loop
    flop   of an image-step with its prediction
    """
    device = model.cls_token.device
    memory.reset_peak(device)
    best, n = (float("inf"), 1), 1
    while n <= size.stack:
        ttt._ours(model, masks, 1, n, dtype, None)  # warms up
        seconds = ttt._ours(model, masks, 2, n, dtype, None)
        if seconds > best[0] / 1.05:
            break
        best, n = (seconds, n), 2 * n
    at_once = best[1]
    steps = min(size.steps, max(2, int(_LONGEST / (at_once * best[0] / 2))))
    every, last = (
        statistics.median(ttt._ours(model, masks, steps, at_once, dtype, at) for _ in range(2))
        / steps
        for at in (None, (steps,))
    )
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


def _flop_by_masks(work: Callable[[int, int], object]) -> Callable[[int], float]:
    """FLOPs of a step with its prediction for any number of masks: a line through two counts."""
    one, two = ttt._flop(work, 1), ttt._flop(work, 2)
    return lambda masks: one + (masks - 1) * (two - one)


# -- continual adaptation -------------------------------------------------------------------------


def _palm(device: torch.device, size: Size) -> Rows:
    """Every method in forward passes, PALM against its plain form, and waits for the device."""
    for preset, side, batch in size.networks:
        torch.manual_seed(0)
        net = zoo.create(preset).to(device).eval()
        batches = [
            corruptions.corrupt(pictures(side, batch), "glass_blur", s).to(device).float() / 255
            for s in range(1, size.rounds + 2)
        ]
        case = palm.Case(preset, batch)
        for row in palm._rows(case, net, batches, NO_SOURCE):
            name = row["method"]
            waits = float("nan") if name == palm.PLAIN else _waits(net, name, batches)
            yield {**row, "waits for the device in a batch": waits}


def _waits(net: Any, method: str, batches: Sequence[Tensor]) -> float:
    """How often the third batch makes the host wait for the GPU; nan on a CPU."""
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
    return float(sum("synchronizing" in str(one.message) for one in caught))


# -- corruptions ----------------------------------------------------------------------------------


def _corruptions(device: torch.device, size: Size) -> Rows:
    """Images per second of `corrupt` on the device and of one image at a time on one core."""
    for side, batch in size.sides:
        images = pictures(side, batch).to(device)
        arrays = list(images[:16].movedim(1, -1).contiguous().cpu().numpy())
        for name in corruptions.NAMES + corruptions.EXTRA_NAMES:
            seconds = median_seconds(
                device, partial(corruptions.corrupt, images, name, SEVERITY), size.rounds
            )
            plain = time_one_image(arrays, name, SEVERITY)
            yield {
                "size": side,
                "batch": batch,
                "corruption": name,
                "images/s": batch / seconds,
                "one core, images/s": np.nan if plain is None else 1 / plain,
                "ratio": np.nan if plain is None else batch / seconds * plain,
            }


PARTS: dict[str, Callable[[torch.device, Size], Rows]] = {
    "peaks": _peaks,
    "ttt": _ttt,
    "palm": _palm,
    "corruptions": _corruptions,
}
