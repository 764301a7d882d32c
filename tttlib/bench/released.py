"""The released programs of PALM and TTT-MAE beside ours: what people would otherwise run.

A process in the released program's environment gets the same weights and images, decoded, and as
many threads. Rounds alternate, and the ratio is the median over them, after one that warms up. The
answers show that both did the same work: of TTT-MAE in the timed rounds, under the masks that the
released program drew; of PALM on three small batches in float64, under the views that it drew.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from tttlib import adapt, ttt
from tttlib.bench import timing, ttt_speed
from tttlib.bench.adaptation_speed import _faster_format
from tttlib.bench.device_parts import blurred
from tttlib.bench.released_process import PROGRAMS, running
from tttlib.data.photographs import pictures
from tttlib.models import zoo
from tttlib.runtime.devices import best_device

ROUNDS = 4


class Case(NamedTuple):
    """A network and the images of a round; then what PALM needs, then what TTT-MAE needs."""

    network: str
    images: int
    side: int = 32
    constants: str = "cifar10-c"
    masks: int = 8
    steps: int = 10


CASES = {
    ("palm", "cpu"): (Case("wrn-cifar10-jpeg", 50),),
    ("palm", "cuda"): (Case("wrn-28-10", 200), Case("resnet-50", 64, 224, "imagenet-c")),
    ("ttt-mae", "cpu"): (Case("small", 1, steps=4),),
    ("ttt-mae", "cuda"): (Case("small", 8), Case("large", 8), Case("large", 8, masks=128)),
}


def bench_released(
    out: Path, palm: Path | None = None, ttt_mae: Path | None = None, python: str = sys.executable
) -> None:
    """Time released programs and ours, and write `<out>/tables/bench_released_NAME.csv`.

    Parameters
    ----------
    out
        Folder of the tables.
    palm, ttt_mae
        Checkouts of the released code.
    python
        Interpreter of an environment that can import them.

    Raises
    ------
    ValueError
        Without a checkout, and for released programs that cannot run or answer in another shape.
    """
    if palm is None and ttt_mae is None:
        raise ValueError("released needs a checkout of released code: --palm DIR or --ttt-mae DIR")
    for option, checkout, row in (("palm", palm, palm_row), ("ttt-mae", ttt_mae, ttt_row)):
        if checkout is not None:
            rows = (row(case, checkout, python) for case in CASES[option, best_device().type])
            caption = f"Time of the released {PROGRAMS[option][0]} over ours, and of a round each."
            timing.keep(rows, _line, out, f"bench_released_{option.replace('-', '_')}", caption)


def palm_row(case: Case, checkout: Path, python: str) -> dict[str, Any]:
    """Return the row of a network; a round is the next batch of the stream, blurred more."""
    device = best_device()
    net: Any = ttt_speed.Case("", case.network).model(device)
    net = net.to(memory_format=torch.contiguous_format)
    batches = blurred(device, case.side, case.images, ROUNDS + 1)
    how: Any = adapt.METHODS["palm"].presets[case.constants]
    ours = {"BETA3": 1 - how.alpha, "TEMP": how.temperature, "THRESH": how.threshold}
    cfg = {
        "CORRUPTION": {"DATASET": case.constants.replace("-", "_")},
        "OPTIM": {"LR": how.lr, "WD": how.weight_decay},
        "OURS": {**ours, "LAMBDA": how.consistency},
    }
    sizes = getattr(net, "card", {}).get("architecture") or zoo.PRESETS[case.network]
    scale = [value.flatten().tolist() for value in (net.mean, net.std)]
    task = {"sizes": sizes, "cfg": cfg, "normalise": scale if scale != [[0] * 3, [1] * 3] else []}
    create, times = partial(adapt.create, "palm", preset=case.constants), []
    with running("palm", checkout, python, task, net, torch.stack(batches)) as (versions, ask):
        adapter = create(_faster_format(net, batches[0]))
        for n, batch in enumerate(batches):
            times.append((ask(n)[0], timing.seconds(device, partial(adapter, batch))))
        _, answers = ask(-1)
    views = iter(answers["views"].to(device))
    double = create(net.double(), augment=lambda _: next(views))
    logits = torch.stack([double(batch[:16].double()) for batch in batches[:3]])
    difference = _difference(logits, answers["logits"])
    work = f"{case.images} images of {case.side} pixels"
    return _row(case, work, times, difference, 1e-6, versions)


def ttt_row(case: Case, checkout: Path, python: str) -> dict[str, Any]:
    """Return the row of a network; in each round all images adapt from the same weights."""
    device = best_device()
    model: Any = ttt_speed.Case("", case.network).model(device)
    images = pictures(model.img_size, case.images).to(device).float() / 255
    sizes, lr = zoo.PRESETS[case.network], ttt.scaled_lr(1e-2, case.masks)
    head = {name: n for name, n in sizes.items() if name.startswith(("classifier_", "num_cl"))}
    head |= {"head_type": model.head_type, "norm_pix_loss": model.norm_pix_loss}
    released = f"mae_vit_{case.network}_patch{model.patch_size}"
    args = {"model": released, "lr": lr, "batch_size": case.masks, "steps_per_example": case.steps}
    how: dict[str, Any] = {"lr": lr, "steps": case.steps, "batch_size": case.masks}
    run = partial(ttt.run, model, images, evaluate_at=range(1, case.steps + 1), **how)
    task, scaled = {"network": head, "args": args}, model.normalize(images)
    times, differences = [], []
    with running("ttt-mae", checkout, python, task, model, scaled) as (versions, ask):
        for n in range(ROUNDS + 1):
            theirs, answers = ask(n)
            start = time.perf_counter()  # the results are on the CPU: nothing is left queued
            result = run(orders=answers["orders"])
            times.append((theirs, time.perf_counter() - start))
            differences.append(_difference(result.logits, answers["logits"]))
    work = f"{case.images} images, {case.steps} steps of {case.masks} masks"
    return _row(case, work, times, float(np.max(differences)), 1e-3, versions)


def _difference(ours: Tensor, theirs: Tensor) -> float:
    """Return the largest difference of a logit, NaN where there is one."""
    if ours.shape != theirs.shape:
        shapes = f"{list(theirs.shape)} instead of {list(ours.shape)}"
        raise ValueError(f"the released program answers with logits {shapes}: not the same work")
    return (ours.cpu() - theirs).abs().max().item()


def _row(
    case: Case, work: str, times: Sequence[Any], difference: float, limit: float, versions: str
) -> dict[str, Any]:
    theirs, ours = (statistics.median(column) for column in zip(*times[1:], strict=True))
    row = {"network": case.network, "work": work, "released, s": theirs, "ours, s": ours}
    row |= timing.spread([a / b for a, b in times[1:]])
    return row | {"difference": difference, "same work": difference <= limit, "released": versions}


def _line(row: dict[str, Any]) -> str:
    line = (
        "%(network)s, %(work)s: %(ratio).2f times as fast as the released code (%(low).2f to "
        "%(high).2f; %(ours, s).3g s, and %(released, s).3g s in %(released)s); "
        "logits within %(difference).1e"
    )
    return line + ("" if row["same work"] else ": NOT the same work, so the ratio says nothing")
