"""Images per second of `ttt.run` and of the plain loop of test-time training.

Both adapt the same images from the same weights under the same masks, and predict after every step.
Rounds alternate, so that a disturbance of the machine meets both, and the ratio is the median over
the rounds. Rates are also compared with the fastest large matrix product of the same run.
"""

from __future__ import annotations

import itertools
import logging
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from tttlib import plots, ttt
from tttlib.bench import roofline
from tttlib.bench.timing import keep, seconds, spread
from tttlib.models import MaskedAutoencoder, zoo
from tttlib.reference import ttt as plain_ttt
from tttlib.runtime import memory
from tttlib.runtime.devices import best_device, bf16_helps
from tttlib.ttt.sgd import Rule

log = logging.getLogger(__name__)

STEPS = 10
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_LONG = 4.0  # seconds for an image in the plain loop, above which fewer steps are timed


@dataclass(frozen=True)
class Case:
    """One network, with random weights if none are bundled."""

    label: str
    name: str
    batches: tuple[int, ...] = (1, 8, 32, 128)
    gpu: bool = False

    def model(self, device: torch.device) -> MaskedAutoencoder:
        """Return the network in eval mode on a device."""
        if self.name in zoo.bundled():
            return zoo.load(self.name, device=device)
        torch.manual_seed(0)
        return zoo.create(self.name).to(device).eval()


CASES = (
    Case("scenes", "mae-scenes"),
    Case("tiny-imagenet", "mae-tiny-imagenet-50"),
    Case("ViT-S/16 at 224", "small"),
    Case("ViT-L/16 at 224", "large", gpu=True),
)


def bench_ttt(
    cases: Sequence[Case] = CASES, rounds: int = 5, steps: int = STEPS, most: int = 64
) -> Iterator[dict[str, Any]]:
    """Yield one row per network, number of masks and dtype; see `_measure`.

    Parameters
    ----------
    cases
        The networks.
    rounds
        How often each is timed.
    steps
        Steps of an image; fewer where the plain loop is slow.
    most
        Images that adapt at once, at most.
    """
    device = best_device()
    peaks = {name: roofline.matrix_peak(device, dtype) for name, dtype in _DTYPES.items()}
    bandwidth = roofline.copy_bandwidth(device)
    found = (rate / 1e9 for rate in (*peaks.values(), bandwidth))
    line = "largest matrix products: float32 %.0f GFLOP/s, bfloat16 %.0f; copies %.0f GB/s"
    log.info(line, *found)
    dtypes = list(_DTYPES) if bf16_helps(device) else ["float32"]
    if "bfloat16" not in dtypes:
        log.info("bfloat16 does not pay here, so it is left out")
    for case in cases:
        if case.gpu and device.type == "cpu":
            continue
        model = case.model(device)
        flop = {"": roofline.flop(partial(_run, model))}
        flop["plain "] = roofline.flop(partial(_run_plain, model))
        for batch_size, dtype in itertools.product(case.batches, dtypes):
            row = _measure(model, batch_size, dtype, rounds, steps, most)
            for kind, peak in (("", peaks[dtype]), ("plain ", peaks["float32"])):
                row[f"{kind}GFLOP"] = flop[kind](batch_size) / 1e9
                rate = 1e9 * row[f"{kind}GFLOP"] * row[f"{kind}image steps/s"]
                row[f"{kind}share of peak"] = rate / peak
            yield {"network": case.label, **row, "peak": peaks[dtype], "bandwidth": bandwidth}


def _measure(
    model: MaskedAutoencoder, batch_size: int, dtype: str, rounds: int, wanted: int, most: int
) -> dict[str, Any]:
    """Return the rates of both in image-steps per second, their ratios and memory.

    "ratio" is with a prediction after every step, as the plain loop does (always in float32), and
    "ratio last" with one after the last step only.
    """
    device = model.cls_token.device
    steps = min(wanted, max(1, int(_LONG / _plain(model, batch_size, 1))))
    at_once = _best_stack(model, batch_size, dtype, 1 if steps < wanted else 2, most)
    memory.reset_peak(device)
    ours = partial(_ours, model, batch_size, steps, at_once, dtype)
    times = [(_plain(model, batch_size, steps), ours(), ours((steps,))) for _ in range(rounds)]
    plain, every, _ = (statistics.median(column) for column in zip(*times, strict=True))
    return {
        "masks": batch_size,
        "dtype": dtype,
        "images at once": at_once,
        "steps timed": steps,
        "image steps/s": steps / every,
        "plain image steps/s": steps / plain,
        **spread([a / b for a, b, _ in times]),
        "ratio last": statistics.median(a / last for a, _, last in times),
        "MB moved": roofline.bytes_moved(model) / 1e6,
        "peak memory, GB": memory.peak(device) / 2**30,
    }


def _images(model: MaskedAutoencoder, n: int) -> Tensor:
    random = torch.Generator().manual_seed(0)
    images = torch.rand(n, 3, model.img_size, model.img_size, generator=random)
    return images.to(model.cls_token.device)


def _run(
    model: MaskedAutoencoder,
    batch_size: int,
    steps: int,
    n: int = 1,
    dtype: str = "float32",
    at: tuple[int, ...] | None = None,
) -> None:
    ttt.run(
        model,
        _images(model, n),
        steps=steps,
        batch_size=batch_size,
        lr=ttt.scaled_lr(1e-2, batch_size),
        parallel=n,
        evaluate_at=at,
        autocast=None if dtype == "float32" else dtype,
    )


def _run_plain(model: MaskedAutoencoder, batch_size: int, steps: int) -> None:
    random = torch.Generator().manual_seed(0)
    orders = torch.rand(1, steps, batch_size, model.num_patches, generator=random).argsort(-1)
    rule = Rule("sgd", ttt.scaled_lr(1e-2, batch_size))
    names = ttt.trained_parameters(model, "encoder")
    plain_ttt.run(model, _images(model, 1), orders, names, rule)


def _plain(model: MaskedAutoencoder, batch_size: int, steps: int) -> float:
    """Return the seconds per image of the plain loop."""
    return seconds(model.cls_token.device, partial(_run_plain, model, batch_size, steps))


def _ours(model: MaskedAutoencoder, batch_size: int, steps: int, at_once: int, *how: Any) -> float:
    """Return the seconds per image of `ttt.run`; `how` are the dtype and when to predict."""
    work = partial(_run, model, batch_size, steps, at_once, *how)
    return seconds(model.cls_token.device, work) / at_once


def _best_stack(
    model: MaskedAutoencoder, batch_size: int, dtype: str, steps: int, most: int
) -> int:
    """Return how many images `parallel="auto"` would adapt at once: doubled while that pays."""
    best, n = (float("inf"), 1), 1
    while n <= most:
        if n == 1 or best[0] < 1:
            _ours(model, batch_size, 1, n, dtype)  # warms up
        time = _ours(model, batch_size, steps, n, dtype)
        if time > best[0] / 1.05:
            break
        best, n = (time, n), 2 * n
    return best[1]


def report(rows: Iterator[dict[str, Any]], out: Path) -> pd.DataFrame:
    """Log the rows as they come, and write `<out>/tables/bench_ttt.csv` and the roofline figure."""
    line = (
        "%(network)s, %(masks)d masks, %(dtype)s, %(images at once)d at once: "
        "%(image steps/s).2f image-steps/s, plain %(plain image steps/s).2f, "
        "ratio %(ratio).2f (%(low).2f to %(high).2f), predicting last only %(ratio last).2f; "
        "%(GFLOP).2f GFLOP (plain %(plain GFLOP).2f), %(share of peak).2f of the peak "
        "(plain %(plain share of peak).2f), %(peak memory, GB).2f GB"
    )
    caption = "Test-time training against the plain loop."
    table = keep(rows, lambda _: line, out, "bench_ttt", caption)
    plots.use_style()
    plots.save(roofline.roofline(table), out, "bench_ttt_roofline", "Rates against the machine's.")
    return table
