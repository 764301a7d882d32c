"""Timing against the obvious implementation, both in one run on one machine.

The ratio of the two is what shared machines can say; seconds belong to the device named beside
them.
"""

from __future__ import annotations

import logging
from pathlib import Path

from tttlib import environment
from tttlib.bench import corruptions, data, device, factors, memory, palm, ttt

log = logging.getLogger(__name__)

TARGETS = ("ttt", "palm", "memory", "factors", "corruptions", "data", "device")


def main(what: str = "ttt", out: Path = Path("runs/bench")) -> None:
    """Log one line per setting; "ttt", "palm", "memory" and "device" also write into `out`.

    Raises ValueError for an unknown target.
    """
    if what not in TARGETS:
        raise ValueError(f"unknown benchmark {what!r}; known are {', '.join(TARGETS)}")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    origin = environment.describe()
    log.info("device: %s, %d threads", origin["device"], origin["threads"])
    if what == "device":
        device.bench_device(out)
    elif what == "corruptions":
        corruptions.report(corruptions.bench_corruptions())
    elif what == "factors":
        for row in factors.bench_factors():
            log.info(
                "%(masks)d masks, %(predicted)2d tokens predicted: weights %(GFLOP weights).1f "
                "GFLOP, factors %(GFLOP factors).1f; time of weights / time of factors "
                "%(ratio).2f",
                row,
            )
    elif what == "palm":
        palm.report(palm.bench_palm(), out)
    elif what == "memory":
        memory.report(memory.bench_memory(), out)
    elif what == "data":
        log.info(
            "%(set)s, %(images)d images: first epoch %(first).0f images/s, from the cache "
            "%(cached).0f, ratio %(ratio).1f (%(low).1f to %(high).1f)",
            data.bench_data(),
        )
    else:
        ttt.report(ttt.bench_ttt(), out)
