"""Recorded numbers of a run, each with the tolerance beyond which a run has moved.

Made from runs that differ in their seed alone: the value is the first run's, the tolerance says how
far another seed moves it. With spread s over the runs of a cell (standard deviation, k - 1 degrees
of freedom), the difference of two runs has deviation sqrt(2) s, and the tolerance is

    t(99.9 %) * sqrt(2) * max(s, pooled s)      but never below the floor.

The pooled s is that of all cells of one experiment and quantity, carried over to a cell of n rows:
variances of means fall as 1/n, and those of fractional numbers go with the square of their size
(taken as at least a tenth of the typical one). A cell alone often has no spread over five seeds
although another seed would move it: of a run left out of the making (five seeds in turn, notebooks
02, 03, 05 and 06 at tiny size), 2.1 % of 3,075 cells lay outside the t range of their own s, and
0.26 % outside that of the larger s. t has as many degrees of freedom as all cells pooled. So a few
cells of a thousand move when the randomness itself changes; with the same seeds none does.

The floor is what another processor's rounding changes at equal seeds: for right and wrong one
answer in twenty, at least one; for other numbers 0.2 % of the mean absolute value.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
from scipy import stats

from tttlib.results.columns import LEADING
from tttlib.results.compare import ATOL, RTOL, Comparison, cells_of, compare
from tttlib.runtime import environment
from tttlib.runtime.files import write
from tttlib.runtime.text import decode

BY = (*LEADING, "name", "layer", "factor", "state", "kind")
"""What names a cell; other settings (learning rates, masks) are averaged over."""

LEFT_OUT = ("claims", "diagnostics")
"""Verdicts follow from other rows; what methods tell of themselves has no typical size."""

COVERAGE = 0.999
ROUNDING = 2e-3
"""Relative: float32 sums in another order, over a few steps of learning."""

_RULE = (  # stored in the file
    "value: first run; tolerance: 99.9 % t range of the difference of two seeds, spread pooled "
    "over cells, at least one answer in twenty or 0.2 %"
)


def flips(n: pd.Series) -> pd.Series:
    """Return the share of n answers that may change: their two best classes are nearly equal."""
    return (n // 20).clip(lower=1) / n


def make(
    runs: Sequence[str | Path],
    file: str | Path,
    *,
    by: Sequence[str] = BY,
    experiments: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Write the goldens of runs that differ in their seed, and return their cells.

    Cells that not all runs have are left out (a setting that was chosen by tuning, for instance); n
    is kept where all runs agree on it.

    Parameters
    ----------
    runs
        The first gives the values; one alone has the floor as tolerance.
    file
        The JSON file to write.
    by
        What names a cell.
    experiments
        Only these; None: all but `LEFT_OUT`.

    Raises
    ------
    ValueError
        For no runs, and for a run without cells.
    """
    if not runs:
        raise ValueError("goldens need at least one run")
    tables = [cells_of(run, by, experiments, tables=False) for run in runs]
    tables = [t.set_index(["cell", "quantity"]) for t in tables]
    first = tables[0]
    if experiments is None:
        first = first[~_experiments(first.reset_index()).isin(LEFT_OUT).to_numpy()]
    for table in tables[1:]:
        first = first[first.index.isin(table.index)]
    means = np.stack([t.loc[first.index, "mean"] for t in tables])  # [runs,cells]
    counts = np.stack([t.loc[first.index, "n"] for t in tables])
    made = first.reset_index()
    made["tolerance"] = _tolerances(made, means)
    made["n"] = made["n"].where((counts == counts[0]).all(0))
    made = made[["cell", "quantity", "n", "mean", "tolerance"]]
    chosen = None if experiments is None else list(experiments)
    _write(made, file, runs=len(runs), by=list(by), experiments=chosen)
    return made


def read(file: str | Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return cells for `compare`, and the options of `cells_of` that make those of a run.

    Raises
    ------
    ValueError
        For a file that holds no goldens.
    """
    try:
        content = json.loads(decode(Path(file).read_bytes()))
        of_cells = content["cells"].items()
        cells = [(cell, name, *v) for cell, found in of_cells for name, v in found.items()]
        table = pd.DataFrame(cells, columns=["cell", "quantity", "n", "mean", "tolerance"])
        options = {"by": content["by"], "experiments": content["experiments"], "tables": False}
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise ValueError(
            f"{file} holds no goldens ({type(error).__name__}: {error}); make them with "
            "tttlib compare --make-golden FILE RUN …"
        ) from error
    return table.assign(scale=table["mean"].abs(), answers=False), options


def compare_paths(
    a: str | Path, b: str | Path, *, rtol: float | None = None, atol: float | None = None
) -> Comparison:
    """Compare two runs, or goldens (a .json file, on either side) and a run.

    Raises
    ------
    ValueError
        For tolerances beside goldens, which have their own.
    """
    if Path(b).suffix == ".json":
        a, b = b, a
    if Path(a).suffix != ".json":
        rtol, atol = RTOL if rtol is None else rtol, ATOL if atol is None else atol
        return compare(cells_of(a), cells_of(b), rtol=rtol, atol=atol)
    if rtol is not None or atol is not None:
        raise ValueError(f"{a} has a tolerance for every cell: leave --rtol and --atol out")
    expected, options = read(a)
    cells = cells_of(b, **options)
    if options["experiments"] is None:
        cells = cells[~_experiments(cells).isin(LEFT_OUT)]
    return compare(expected, cells)


def _experiments(cells: pd.DataFrame) -> pd.Series:
    return cells["cell"].str.split("; ").str[0]


def _tolerances(cells: pd.DataFrame, means: np.ndarray) -> pd.Series:
    n, answers = cells["n"], cells["answers"].astype(bool)
    floor = flips(n).where(answers, ROUNDING * cells["scale"])
    k = len(means)
    if k < 2:
        return floor
    own = pd.Series(means.std(0, ddof=1), cells.index)
    kind = [_experiments(cells), cells["quantity"], cells["cell"].map(_inner)]
    typical = cells["scale"].groupby(kind).transform("mean")
    size = cells["scale"].clip(lower=0.1 * typical).where(~answers, 1.0)
    groups = (n * (own / size.where(size > 0)) ** 2).groupby(kind)
    pooled = np.sqrt(groups.transform("mean").fillna(0) / n) * size
    degrees = (k - 1) * groups.transform("size")
    t = stats.t.ppf(0.5 + COVERAGE / 2, degrees)
    spread = np.sqrt(2) * t * np.maximum(own, pooled)
    return cast(pd.Series, np.maximum(spread, floor))


def _inner(cell: str) -> str:
    """Return what a quantity belongs to: the parts of a name that are not in `LEADING`."""
    return "; ".join(p for p in cell.split("; ")[1:] if p.partition("=")[0] not in LEADING)


def _write(cells: pd.DataFrame, file: str | Path, **options: Any) -> None:
    """Write JSON with one line per cell, so that differences of two versions can be read."""
    origin = environment.describe()
    head = {"tolerance": _RULE, "runs": options.pop("runs")}
    head |= {"git_sha": origin["git_sha"], "device": origin["device"]}
    head |= {"torch": origin["versions"]["torch"], **options}
    lines = [f" {json.dumps(k)}: {json.dumps(v)}," for k, v in head.items()]
    values: dict[str, dict[str, list]] = {}
    for cell, quantity, n, mean, tolerance in cells.itertuples(index=False):
        count = None if pd.isna(n) else int(n)
        numbers = [count, float(f"{mean:.7g}"), float(f"{tolerance:.3g}")]
        values.setdefault(cell, {})[quantity] = numbers
    inner = ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in sorted(values.items()))
    content = "\n".join(["{", *lines, ' "cells": {', inner, " }", "}"]) + "\n"
    write(file, content)
