"""Measuring the time of work, what several rounds say together, and keeping the rows."""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from tttlib import plots
from tttlib.runtime.devices import synchronise

log = logging.getLogger(__name__)


def seconds(device: torch.device, work: Callable[[], object], least: float = 0) -> float:
    """Return the seconds of one call of `work`, averaged over calls that take `least` seconds."""
    synchronise(device)
    calls, start = 0, time.perf_counter()
    while True:
        work()
        synchronise(device)
        calls += 1
        passed = time.perf_counter() - start
        if passed >= least:
            return passed / calls


def spread(ratios: Sequence[float]) -> dict[str, float]:
    """Return the median of the rounds as "ratio", and their extremes as "low" and "high"."""
    return {"ratio": statistics.median(ratios), "low": min(ratios), "high": max(ratios)}


def keep(
    rows: Iterator[dict[str, Any]],
    line: Callable[[dict[str, Any]], str],
    out: Path,
    name: str,
    caption: str,
) -> pd.DataFrame:
    """Log the rows as they come and write them to `<out>/tables/<name>.csv`; return them all.

    Parameters
    ----------
    rows
        The rows of a benchmark.
    line
        Returns the line of a row, with "%(column)s" for its values.
    out, name, caption
        Where the table goes, see `plots.save_table`.
    """
    kept = []
    for row in rows:
        kept.append(row)
        log.info(line(row), row)
        plots.save_table(pd.DataFrame(kept), out, name, caption)
    return pd.DataFrame(kept)
