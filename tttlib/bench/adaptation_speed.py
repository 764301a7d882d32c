"""Benchmark of adaptation: cost of a batch in forward passes, and PALM against its plain form.

A forward-equivalent is the time of one plain forward pass of the source network on the same batch
in the same run. All methods and the plain form of PALM see the same corrupted images; rounds
alternate, so that a disturbance of the machine meets all, and ratios are medians over rounds. The
networks are the bundled ones, whose learned weights decide how many tensors PALM selects.
"""

from __future__ import annotations

import copy
import logging
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from tttlib import adapt, data, streams
from tttlib.bench import timing
from tttlib.models import zoo
from tttlib.reference.palm import PlainPalm, plain_view
from tttlib.runtime import flops
from tttlib.runtime.devices import best_device

log = logging.getLogger(__name__)

PLAIN = "palm, plain"
ROUNDS = 5


@dataclass(frozen=True)
class Case:
    """A bundled network with batches of B images of scenes; `threshold` is PALM's eta."""

    name: str
    batch_size: int = 100
    threshold: float = 1.0


CASES = (
    Case("wrn-scenes", 20),  # the batch of `make study`
    Case("wrn-scenes"),
    Case("wrn-cifar10-jpeg", 50),
    Case("wrn-cifar10-jpeg", 50, threshold=0.1),
)


def bench_palm(
    cases: Sequence[Case] = CASES, rounds: int = ROUNDS, methods: Sequence[str] = adapt.NAMES
) -> Iterator[dict[str, Any]]:
    """Yield one row per network and method that has a meaning for it.

    Yields
    ------
    dict
        forwards (time over that of a plain forward pass, with its extremes low and high), GFLOP
        (of an image, in convolutions and matrix products), and for PALM and its plain form
        ratio (time of the plain form over that of `adapt.palm`, with extremes), difference (the
        largest one of the two's logits over three small batches in float64; in float32 steps of
        |g| / (|g| + 1e-8) carry rounding on: signs of tiny gradients flip) and share moving (of
        the trained elements, in the last batch).
    """
    device = best_device()
    for case in cases:
        stream = streams.continual(
            data.load("scenes", "test"), ("glass_blur", "snow"), batch_size=case.batch_size
        )
        batches = [batch.images.to(device) for batch in islice(stream, rounds)]
        yield from _rows(case, zoo.load(case.name, device=device), batches, methods)


def source_images(method: str, n: int) -> dict[str, Any]:
    """Return n clean training images of scenes as constants of a method that needs some."""
    needed = "source images" in adapt.METHODS[method].needs
    return {"source": data.load("scenes", "train", n=n)} if needed else {}


def _rows(
    case: Case, net: nn.Module, batches: Sequence[Tensor], methods: Sequence[str]
) -> Iterator[dict[str, Any]]:
    contiguous = net.to(memory_format=torch.contiguous_format)  # as released codes have it
    ours = _faster_format(net, batches[0])
    calls: dict[str, Callable[[Tensor], Tensor]] = {
        "forward": adapt.create("source", contiguous),
        PLAIN: _plain(contiguous, case),
    }
    extra = {name: source_images(name, case.batch_size) for name in methods}  # seen before
    extra["palm"] = {"threshold": case.threshold}
    for name in methods:
        try:
            calls[name] = adapt.create(name, ours, **extra.get(name, {}))
        except ValueError as error:
            log.info("%s is left out: %s", name, error)
    flop = {}
    for name, call in calls.items():
        call(batches[0])  # what the first batch alone needs is not counted
        flop[name] = flops.count(partial(call, batches[0])) / len(batches[0])
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for images in batches:
        for name, call in calls.items():
            seconds[name].append(timing.seconds(images.device, partial(call, images)))
    one = seconds["forward"]
    for name, times in seconds.items():
        if name == "forward":
            continue
        row = {
            "network": case.name,
            "images": case.batch_size,
            "method": name,
            **_spread("forwards", [t / f for t, f in zip(times, one, strict=True)]),
            "images/s": len(batches[0]) / statistics.median(times),
            "GFLOP": flop[name] / 1e9,
        }
        if name == "palm":
            plain = seconds[PLAIN]
            row |= _spread("ratio", [p / t for p, t in zip(plain, times, strict=True)])
            row["GFLOP ratio"] = flop[PLAIN] / flop[name]
            row["difference"] = _difference(contiguous, case, batches[:3])
            row["threshold"] = case.threshold
            share = calls[name].diagnostics["share_moving"]  # type: ignore[attr-defined]
            row["share moving"] = share.item()
        yield row


def _plain(net: nn.Module, case: Case) -> PlainPalm:
    """Return the plain form with the views that `adapt.palm` draws, made step by step."""
    random = torch.Generator().manual_seed(0)
    return PlainPalm(net, lambda x: plain_view(x, random), threshold=case.threshold)


def _difference(net: nn.Module, case: Case, batches: Sequence[Tensor]) -> float:
    net = copy.deepcopy(net).double()
    plain, ours = _plain(net, case), adapt.create("palm", net, threshold=case.threshold)
    pairs = [(plain(x), ours(x)) for x in (images[:16].double() for images in batches)]
    return max((a - b).abs().max().item() for a, b in pairs)


def _faster_format(net: nn.Module, images: Tensor) -> nn.Module:
    """Return the network in the memory format in which a step of TENT takes less time."""
    seconds: dict[float, nn.Module] = {}
    for memory_format in (torch.contiguous_format, torch.channels_last):
        candidate = copy.deepcopy(net).to(memory_format=memory_format)
        adapter = adapt.create("tent", candidate)
        adapter(images)  # warms up
        seconds[timing.seconds(images.device, partial(adapter, images))] = candidate
    return seconds[min(seconds)]


def _spread(name: str, values: Sequence[float]) -> dict[str, float]:
    median, low, high = timing.spread(values).values()
    return {name: median, f"{name}, low": low, f"{name}, high": high}


def report(rows: Iterator[dict[str, Any]], out: Path) -> pd.DataFrame:
    """Log the rows as they come and write `<out>/tables/bench_palm.csv`."""
    line = (
        "%(network)s, %(images)d images, %(method)s: %(forwards).2f forward passes "
        "(%(forwards, low).2f to %(forwards, high).2f), %(images/s).0f images/s, "
        "%(GFLOP).2f GFLOP an image"
    )
    more = (
        "\n  against its plain form with eta %(threshold)g, %(share moving).2f of the elements "
        "moving: %(ratio).2f times as fast (%(ratio, low).2f to %(ratio, high).2f), arithmetic "
        "%(GFLOP ratio).2f; float64 logits within %(difference).1e"
    )
    caption = "Cost of adaptation in forward passes."
    return timing.keep(rows, lambda row: line + more * ("ratio" in row), out, "bench_palm", caption)
