"""What a sweep would do, and for how long: from units of the same kind that have finished.

Two units are of the same kind if they run the same experiment or notebook with the same parameters,
but for those that say *which* images, corruption or random numbers are taken, not how much is to be
done: `seed`, `…_seed`, `corruption`, `severity`, `split`, `part` and `root`. Nothing is modelled: a
unit takes the median seconds of the finished units of its kind, and where there is none, its time
is unknown. The times are those of the machines and the load that the units ran under.
"""

from __future__ import annotations

import json
import re
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tttlib.sweep import records, sweeps
from tttlib.sweep.grid import Unit, read_grid
from tttlib.sweep.plan_file import check_unchanged

_NOT_OF_KIND = re.compile(r"(.+_)?seed|corruption|severity|split|part|root")


@dataclass(frozen=True)
class Forecast:
    """What a sweep would do.

    Attributes
    ----------
    total
        Number of units of the grid.
    todo
        The units that would run, with the seconds that each takes (None: unknown).
    states
        How many units are "done", "failed", "stale" (other code made their rows), "damaged" (files
        of a done unit are not what they were) or "open".
    problem
        Why nothing is known of what is done; empty if it is.
    """

    total: int
    todo: list[tuple[Unit, float | None]]
    states: Counter[str]
    problem: str = ""

    @property
    def seconds(self) -> float:
        """The seconds of all units whose time is known, on one worker."""
        return sum(seconds for _, seconds in self.todo if seconds is not None)

    @property
    def unknown(self) -> list[str]:
        """The experiments of the units whose time is unknown, each once."""
        return list(dict.fromkeys(u.experiment for u, seconds in self.todo if seconds is None))


def forecast(
    grid: str | Path,
    out: str | Path,
    *,
    retry_failed: bool = False,
    keep_old: bool = False,
    timings: Sequence[str | Path] = (),
) -> Forecast:
    """Return what `run_sweep` would do; nothing runs and nothing is written.

    Parameters
    ----------
    grid, out, retry_failed, keep_old
        As for `run_sweep`.
    timings
        Further folders of sweeps whose finished units tell the time, beside `out` and the other
        folders in the same place.

    Raises
    ------
    ValueError
        For the grid, and for data, weights or code that are not those the sweep began with. Where
        data or weights are missing on this machine, all units count as open instead.
    """
    units, out, problem = read_grid(grid), Path(out).resolve(), ""
    try:
        units = sweeps.identified(units)
        check_unchanged(out, units)
    except FileNotFoundError as error:
        problem = str(error)
    known = _seconds_by_kind([out, *_siblings(out), *map(Path, timings)])
    states, todo = Counter[str](), list[tuple[Unit, float | None]]()
    for task in sweeps.tasks_of(units, out, keep_old=keep_old)[0]:
        verdict = "open" if problem else sweeps.judge(task)[0]
        states[verdict] += 1
        if verdict != "done" and not (verdict == "failed" and not retry_failed):
            unit = task.unit
            seconds = known.get(kind_of(unit.experiment, unit.parameters))
            todo.append((unit, None if seconds is None else statistics.median(seconds)))
    return Forecast(len(units), todo, states, problem)


def kind_of(experiment: str, parameters: Mapping[str, Any]) -> str:
    """Return a text that is equal for units of the same kind, see the module's text."""
    kept = {k: v for k, v in parameters.items() if not _NOT_OF_KIND.fullmatch(k)}
    return json.dumps([experiment, kept], sort_keys=True)


def _siblings(out: Path) -> list[Path]:
    """Return the other sweeps in the same folder of runs."""
    return [p.parent for p in sorted(out.parent.glob("*/sweep.json")) if p.parent != out]


def _seconds_by_kind(folders: Iterable[Path]) -> dict[str, list[float]]:
    """Return the seconds of all finished units, each counted once."""
    seconds: dict[str, list[float]] = {}
    for path in dict.fromkeys(p for f in folders for p in sorted(f.glob("units/*/unit.json"))):
        record = records.read(path.parent) or {}
        took = record.get("seconds")
        if record.get("state") == records.DONE and isinstance(took, int | float):
            kind = kind_of(str(record.get("experiment")), record.get("parameters") or {})
            seconds.setdefault(kind, []).append(took)
    return seconds
