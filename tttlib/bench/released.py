"""The released programs of PALM and TTT-MAE beside ours: what people would otherwise run.

The user names a checkout of the released code and the interpreter of an environment that can import
it. A process there gets the same weights and images, decoded, and as many threads; rounds alternate
and the ratio is the median over them, after one that warms up. The answers show that both did the
same work: of TTT-MAE in the timed rounds, under the masks that the released program drew; of PALM
on three small batches in float64, under the views that it drew.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Sequence
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

ROUNDS = 4  # after one that warms up


class Case(NamedTuple):
    """A network and the images of a round; the rest is PALM's, then TTT's."""

    network: str
    images: int
    side: int = 32
    constants: str = "cifar10-c"
    masks: int = 8
    steps: int = 10


CASES = {
    ("palm", "cpu"): (Case("wrn-cifar10-jpeg", 50),),
    ("palm", "cuda"): (Case("wrn-28-10", 200), Case("resnet-50", 64, 224, "imagenet-c")),
    ("ttt_mae", "cpu"): (Case("small", 1, steps=4),),
    ("ttt_mae", "cuda"): (Case("small", 8), Case("large", 8), Case("large", 8, masks=128)),
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
    checkouts = {name: path for name, path in (("palm", palm), ("ttt_mae", ttt_mae)) if path}
    if not checkouts:
        raise ValueError("released needs a checkout of released code: --palm DIR or --ttt-mae DIR")
    for name, checkout in checkouts.items():
        row = partial(_ROWS[name], checkout=checkout, python=python)
        caption = f"Time of the released {PROGRAMS[name].name} over ours, in seconds a round."
        cases = CASES[name, best_device().type]
        timing.keep(map(row, cases), _line, out, f"bench_released_{name}", caption)


def palm_row(case: Case, checkout: Path, python: str) -> dict[str, Any]:
    """Return the row of a network; a round is the next batch of the stream, blurred more."""
    device = best_device()
    net: Any = ttt_speed.Case("", case.network).model(device)
    net = net.to(memory_format=torch.contiguous_format)
    batches = blurred(device, case.side, case.images, ROUNDS + 1)
    how: Any = adapt.METHODS["palm"].presets[case.constants]
    ours = {"BETA3": 1 - how.alpha, "TEMP": how.temperature, "THRESH": how.threshold}
    plain = net.mean.eq(0).all() and net.std.eq(1).all()
    task = {
        "sizes": getattr(net, "card", {}).get("architecture") or zoo.PRESETS[case.network],
        "normalise": [] if plain else [net.mean.flatten().tolist(), net.std.flatten().tolist()],
        "cfg": {
            "CORRUPTION": {"DATASET": case.constants.replace("-", "_")},
            "OPTIM": {"LR": how.lr, "WD": how.weight_decay},
            "OURS": {**ours, "LAMBDA": how.consistency},
        },
    }
    create = partial(adapt.create, "palm", preset=case.constants)
    times = []
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
    return _row(case.network, work, times, difference, 1e-6, versions)


def ttt_row(case: Case, checkout: Path, python: str) -> dict[str, Any]:
    """Return the row of a network; in each round all images adapt from the same weights."""
    device = best_device()
    model: Any = ttt_speed.Case("", case.network).model(device)
    images = pictures(model.img_size, case.images).to(device).float() / 255
    sizes, lr = zoo.PRESETS[case.network], ttt.scaled_lr(1e-2, case.masks)
    shared = {"head_type": model.head_type, "norm_pix_loss": model.norm_pix_loss}
    head = {name: n for name, n in sizes.items() if name.startswith(("classifier_", "num_cl"))}
    task = {
        "network": {**shared, **head, "rotation_prediction": False},
        "args": {
            **shared,
            **{"model": f"mae_vit_{case.network}_patch{model.patch_size}", "lr": lr},
            **{"batch_size": case.masks, "steps_per_example": case.steps, "mask_ratio": 0.75},
            **{"optimizer_type": "sgd", "optimizer_momentum": 0.9, "finetune_mode": "encoder"},
            **{"accum_iter": 1, "num_workers": 0, "rec_loss": True, "verbose": False},
            **{"stored_latents": "", "load_loss_scalar": False},
        },
    }
    how = {"lr": lr, "steps": case.steps, "evaluate_at": range(1, case.steps + 1)}
    run = partial(ttt.run, model, images, batch_size=case.masks, **how)
    times, differences = [], []
    with running("ttt_mae", checkout, python, task, model, model.normalize(images)) as program:
        versions, ask = program
        for n in range(ROUNDS + 1):
            theirs, answers = ask(n)
            start = time.perf_counter()  # the answers arrive on the CPU, so nothing is left queued
            result = run(orders=answers["orders"])
            times.append((theirs, time.perf_counter() - start))
            differences.append(_difference(result.logits, answers["logits"]))
    work = f"{case.images} images, {case.steps} steps of {case.masks} masks"
    return _row(case.network, work, times, float(np.max(differences)), 1e-3, versions)


_ROWS: dict[str, Callable[..., dict[str, Any]]] = {"palm": palm_row, "ttt_mae": ttt_row}


def _difference(ours: Tensor, theirs: Tensor) -> float:
    """Return the largest difference of a logit; NaN where either is."""
    if ours.shape != theirs.shape:
        shapes = f"{list(theirs.shape)} instead of {list(ours.shape)}"
        raise ValueError(f"the released program answers with logits {shapes}: not the same work")
    return (ours.cpu() - theirs).abs().max().item()


def _row(
    network: str,
    work: str,
    times: Sequence[tuple[float, float]],
    difference: float,
    tolerance: float,
    versions: str,
) -> dict[str, Any]:
    theirs, ours = (statistics.median(column) for column in zip(*times[1:], strict=True))
    return {
        **{"network": network, "work": work, "released, s": theirs, "ours, s": ours},
        **timing.spread([a / b for a, b in times[1:]]),
        **{"difference": difference, "same work": difference <= tolerance, "released": versions},
    }


def _line(row: dict[str, Any]) -> str:
    line = (
        "%(network)s, %(work)s: %(ratio).2f times as fast as the released code "
        "(%(low).2f to %(high).2f; %(ours, s).3g s against %(released, s).3g s in %(released)s), "
        "logits within %(difference).1e"
    )
    return line + ("" if row["same work"] else ": NOT the same work, so the ratio says nothing")
