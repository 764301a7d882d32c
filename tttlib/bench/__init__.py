"""Speed and memory, against the obvious implementation in the same run on the same machine.

Only the ratio of the two can be compared between shared machines. Seconds belong to the device that
is named beside them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tttlib.bench import (
    adaptation_memory,
    adaptation_speed,
    corruption_speed,
    decoding_speed,
    device_speed,
    growth,
    released,
    ttt_speed,
)
from tttlib.runtime import environment, memory

log = logging.getLogger(__name__)

_RUN: dict[str, Callable[..., object]] = {
    "ttt": lambda out: ttt_speed.report(ttt_speed.bench_ttt(), out),
    "palm": lambda out: adaptation_speed.report(adaptation_speed.bench_palm(), out),
    "memory": lambda out: adaptation_memory.report(adaptation_memory.bench_memory(), out),
    "corruptions": lambda _: corruption_speed.report(corruption_speed.bench_corruptions()),
    "data": lambda _: decoding_speed.report(decoding_speed.bench_data()),
    "growth": lambda out: growth.report(growth.bench_growth(), out),
    "device": lambda out: device_speed.bench_device(out),
    "released": released.bench_released,
}
TARGETS = tuple(_RUN)


def main(what: str = "ttt", out: Path = Path("runs/bench"), **checkouts: Any) -> None:
    """Run one benchmark and log a line per setting.

    Parameters
    ----------
    what
        One of `TARGETS`.
    out
        The folder into which "ttt", "palm", "memory", "growth", "device" and "released" also write
        their tables and figures.
    **checkouts
        Of "released" alone, see `released.bench_released`; None as if it were not there.

    Raises
    ------
    ValueError
        If the target is unknown, or takes no checkouts.
    """
    if what not in TARGETS:
        raise ValueError(f"unknown benchmark {what!r}; known are {', '.join(TARGETS)}")
    given = {name: value for name, value in checkouts.items() if value is not None}
    if given and what != "released":
        raise ValueError(f"--palm, --ttt-mae and --python belong to bench released, not to {what}")
    memory.keep_freed()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    origin = environment.describe()
    log.info("device: %s, %d threads", origin["device"], origin["threads"])
    _RUN[what](out, **given)
