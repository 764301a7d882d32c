"""Benchmark of adaptation: what a method holds in memory, and whether that grows along a stream.

Each method has a process of its own, since a process gives little back. The batches are corrupted
images of scenes, all different.
"""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from torch import Tensor
from torch.utils._pytree import tree_leaves

from tttlib import adapt, corruptions, data, streams
from tttlib.bench import timing
from tttlib.bench.adaptation_speed import source_images
from tttlib.models import zoo
from tttlib.runtime import memory
from tttlib.runtime.devices import best_device

log = logging.getLogger(__name__)

MEGABYTE = 1e6


@dataclass(frozen=True)
class Case:
    """A bundled network and its batches; `early` of them come before the growth is counted."""

    network: str = "wrn-cifar10-jpeg"
    batch_size: int = 50
    early: int = 6
    batches: int = 30
    constants: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def bench_memory(
    case: Case | None = None, methods: Sequence[str] = adapt.NAMES
) -> Iterator[dict[str, Any]]:
    """Yield one row per method that has a meaning for the network.

    Yields
    ------
    dict
        In MB (10^6 bytes): kept (tensors of the adapter beyond the network itself: copies,
        optimiser, memory), peak (above what the process held before the adapter was made) and
        growth (of the floor, see `growth`); over source is the peak over that of a network that
        is only asked.
    """
    case = case or Case()
    source = 0.0
    for method in dict.fromkeys(["source", *methods]):
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            try:
                row = pool.submit(measure, method, case).result()
            except ValueError as error:
                log.info("%s is left out: %s", method, error)
                continue
        source = source or row["peak"]
        yield {**row, "over source": row["peak"] / source}


def measure(method: str, case: Case) -> dict[str, Any]:
    """Return the row of one method, measured in this process."""
    device = best_device()
    net = zoo.load(case.network, device=device)
    each = -(-case.batches // len(corruptions.NAMES)) * case.batch_size
    pool = data.load("scenes", "test", n=each)
    stream = streams.continual(pool, corruptions.NAMES, batch_size=case.batch_size)
    constants: dict[str, Any] = dict(case.constants.get(method, {}))
    constants = {**source_images(method, case.batch_size), **constants}  # seen before the stream
    batch = stream.batch(0).images.to(device)
    start = memory.now(device)
    adapter = adapt.create(method, net, **constants)
    memory.reset_peak(device)
    resident = []
    for number in range(case.batches):
        adapter(batch)
        resident.append(memory.now(device))
        batch = stream.batch(number + 1).images.to(device) if number + 1 < len(stream) else batch
    return {
        "network": case.network,
        "images": case.batch_size,
        "method": method,
        "kept": (held(adapter.state_dict()) - held(net.state_dict())) / MEGABYTE,
        "peak": (memory.peak(device) - start) / MEGABYTE,
        "growth": growth(resident[case.early - 1 :]) / MEGABYTE,
    }


def growth(resident: Sequence[float]) -> float:
    """Return the least of the last third of the batches minus that of the first third.

    Single batches differ by hundreds of MB, because the allocator keeps what is free for a while;
    what is never given back raises the floor.
    """
    third = max(1, len(resident) // 3)
    return min(resident[-third:]) - min(resident[:third])


def held(state: Any) -> int:
    """Return the bytes of all tensors in nested dicts and lists."""
    return sum(leaf.nbytes for leaf in tree_leaves(state) if isinstance(leaf, Tensor))


def report(rows: Iterator[dict[str, Any]], out: Path) -> pd.DataFrame:
    """Log the rows as they come and write `<out>/tables/bench_memory.csv`."""
    line = (
        "%(network)s, %(images)d images, %(method)s: keeps %(kept).1f MB, peak %(peak).0f MB "
        "(%(over source).1f times the source's), growth %(growth).1f MB"
    )
    caption = "Memory of adaptation methods, MB."
    return timing.keep(rows, lambda _: line, out, "bench_memory", caption)
