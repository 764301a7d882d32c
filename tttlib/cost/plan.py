"""Predicted hours and memory of the units of a grid."""

from __future__ import annotations

import heapq
import logging
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from tttlib.cost.clock import Clock
from tttlib.cost.memory import bytes_of
from tttlib.cost.work import work_of

log = logging.getLogger(__name__)

PARTS = {
    "step": "network",
    "predict": "network",
    "image": "network",
    "arrival": "network",
    "batch": "network",
    "forward": "network",
    "corrupt": "corruption",
    "decode": "decoding",
    "load": "loading",
}
SECONDS = ("network", "corruption", "decoding", "loading")


def predict(
    units: Iterable[tuple[str, Mapping[str, Any]]],
    clock: Clock | None = None,
    *,
    seconds: Mapping[str, float] | None = None,
    memory: bool = True,
) -> pd.DataFrame:
    """One row per unit: experiment, seconds in all and in each of `SECONDS`, bytes.

    units    experiment and parameters of each
    seconds  of one unit of an experiment that is none of `work.EXPERIMENTS` (a notebook), by its
             name or the beginning of it; without, its seconds and bytes are empty
    memory   False: bytes are not asked for
    """
    clock = clock or Clock()
    known_bytes: dict[Any, float] = {}
    rows = []
    for experiment, parameters in units:
        work = work_of(experiment, parameters)
        row: dict[str, Any] = {"experiment": experiment, **dict.fromkeys(SECONDS, 0.0)}
        row["bytes"] = float("nan")
        if not work:
            row["network"] = _given(experiment, seconds or {})
        for task, times in work.items():
            row[PARTS[task.kind]] += times * clock.seconds(task)
            if memory:
                if task not in known_bytes:
                    known_bytes[task] = bytes_of(task)
                row["bytes"] = max(known_bytes[task], row["bytes"] if row["bytes"] > 0 else 0.0)
        row["seconds"] = sum(row[name] for name in SECONDS)
        rows.append(row)
    return pd.DataFrame(rows, columns=["experiment", "seconds", *SECONDS, "bytes"])


def hours_with(table: pd.DataFrame, workers: int, start: float = 0.0) -> float:
    """Hours until `workers` processes, each with a device of its own, are through with the units.

    start  seconds until a worker is ready. Every unit goes to the first worker that is free; units
           of unknown time are not counted.
    Raises ValueError for fewer than one worker.
    """
    if workers < 1:
        raise ValueError(f"workers must be 1 or more, not {workers}")
    free = [start] * min(workers, max(1, len(table)))
    for seconds in table["seconds"].dropna():
        heapq.heapreplace(free, free[0] + seconds)
    return max(free) / 3600


def _given(experiment: str, seconds: Mapping[str, float]) -> float:
    for name, value in seconds.items():
        if experiment.removeprefix("notebook ").startswith(name):
            return float(value)
    return float("nan")
