"""What the tests of sweeps share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tttlib import sweep

TRIVIAL = "trivial_experiment:trivial"


def units_of(parameters: Mapping[str, Any] | None = None, **lists: list) -> list[sweep.Unit]:
    grid = {"experiment": TRIVIAL, "parameters": dict(parameters or {}), "grid": lists}
    return sweep.expand(grid)


def run(units: Iterable[sweep.Unit], out: Path, engine: str = "serial", **how: Any) -> Any:
    """A sweep with two workers; submitit runs its jobs on this machine."""
    if engine == "slurm":
        how["options"] = {"cluster": "local"}
    return sweep.run_sweep(list(units), out, engine=engine, workers=2, progress=False, **how)


def states(out: Path) -> list[str]:
    return list(sweep.overview(out)["state"])


def lines(log: Path, word: str) -> list[str]:
    """What the units wrote: "number seed" of every start or end, sorted."""
    if not log.exists():
        return []
    found = [line.split() for line in log.read_text().splitlines()]
    return sorted(f"{number} {seed}" for what, number, seed, _ in found if what == word)
