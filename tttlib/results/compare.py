"""Two runs, or a run and recorded numbers, cell by cell: what moved, what is missing, what is new.

A cell is one setting of one experiment (every field that tells settings apart, see
`Gathered.settings`; seeds are averaged over) and one measured quantity, with its mean and n; or
one number of a table of the run.

Equal code on the same machine, with the same versions and thread count, gives the same rows, so the
default tolerances allow for summation order alone. Elsewhere rounding flips single answers: give
`--atol` (0.05 is one image of twenty), or compare with a file of goldens, which has a tolerance for
each cell (`goldens`).
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from tttlib.results import columns
from tttlib.results.columns import short
from tttlib.results.export import read_csv
from tttlib.results.folders import Gathered, gather

log = logging.getLogger(__name__)

RTOL, ATOL = 1e-5, 1e-7
"""Of float32 means summed in another order."""

COLUMNS = ["cell", "quantity", "n", "mean", "scale", "answers"]
STATES = ("same", "moved", "missing", "additional")
_INTERVAL = re.compile(r"[-+]?\d[\d.]*\s*\[.*\]")
_NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?")


class Comparison(NamedTuple):
    """What moved between two runs.

    Attributes
    ----------
    cells
        One row per cell: cell, quantity, state (one of `STATES`), A, B, n A, n B, difference,
        tolerance.
    """

    cells: pd.DataFrame

    @property
    def regressed(self) -> bool:
        """Whether a cell moved beyond its tolerance or is missing in B."""
        return bool(self.cells["state"].isin(["moved", "missing"]).any())

    def counts(self) -> dict[str, int]:
        """Return the number of cells in each state."""
        counts = self.cells["state"].value_counts()
        return {state: int(counts.get(state, 0)) for state in STATES}


def cells_of(
    run: str | Path,
    by: Sequence[str] | None = None,
    experiments: Sequence[str] | None = None,
    tables: bool = True,
) -> pd.DataFrame:
    """Return the cells of a run; a warning is logged for units of a sweep that are left out.

    Parameters
    ----------
    run
        A run, sweep or results folder.
    by
        Columns that name a cell, where an experiment has them; None: all settings.
    experiments
        Only these; None: all.
    tables
        Whether to add the numbers of ``<run>/tables/*.csv``.

    Returns
    -------
    DataFrame
        Columns cell, quantity, n, mean, scale (mean of absolute values) and answers (True where
        right or wrong is counted).

    Raises
    ------
    ValueError
        When the run has no cell.
    """
    gathered, left_out = gather([run])
    for note in left_out:
        log.warning(note)
    chosen = gathered if experiments is None else gathered.keys() & set(experiments)
    parts = [_of_rows(name, part, by) for name, part in gathered.items() if name in chosen]
    if tables:
        parts += [_of_table(path) for path in sorted(Path(run).glob("tables/*.csv"))]
    parts = [p for p in parts if len(p)]
    if not parts:
        known = ", ".join(gathered)
        raise ValueError(f"{run} has no rows of {', '.join(experiments or ())}; it has {known}")
    return pd.concat(parts, ignore_index=True)


def compare(
    a: pd.DataFrame, b: pd.DataFrame, *, rtol: float = RTOL, atol: float = ATOL
) -> Comparison:
    """Compare the cells A and B (`cells_of` or `goldens.read`).

    A cell is the same when |B - A| <= tolerance and both have one n. The tolerance is A's column
    `tolerance` where it has one, otherwise atol + rtol * scale.
    """
    both = a.merge(b, on=["cell", "quantity"], how="outer", suffixes=(" A", " B"), indicator=True)
    table = both[["cell", "quantity"]].assign(
        **{"A": both["mean A"], "B": both["mean B"], "n A": both["n A"], "n B": both["n B"]}
    )
    table["difference"] = table["B"] - table["A"]
    own = both["tolerance"] if "tolerance" in both else float("nan")
    table["tolerance"] = pd.Series(own, both.index).fillna(atol + rtol * both["scale A"])
    near = (table["difference"].abs() <= table["tolerance"]) | (table["A"] == table["B"])
    equal_n = (table["n A"] == table["n B"]) | table["n A"].isna()
    state = (near & equal_n).map({True: "same", False: "moved"})
    state = state.mask(both["_merge"] == "left_only", "missing")
    table["state"] = state.mask(both["_merge"] == "right_only", "additional")
    return Comparison(table)


def readable(cells: pd.DataFrame) -> tuple[str, pd.DataFrame]:
    """Return what the names of all cells share, and the table without it, furthest moved first."""
    names = cells["cell"].str.split("; ")
    shared = [p for p in names.iloc[0] if names.map(lambda n, p=p: p in n).all()]
    if len(cells) == 1:
        shared = []
    table = cells.assign(cell=names.map(lambda n: ", ".join(p for p in n if p not in shared)))
    far = (table["difference"].abs() / table["tolerance"]).fillna(float("inf"))
    table = table.loc[far.sort_values(ascending=False, kind="stable").index]
    pairs = zip(table["n A"], table["n B"], strict=True)
    n = [short(a) if a == b else f"{short(a)} -> {short(b)}" for a, b in pairs]
    shown = ["state", "cell", "quantity", "n", "A", "B", "difference", "tolerance"]
    return ", ".join(shared), table.assign(n=n)[shown]


def _of_rows(experiment: str, part: Gathered, by: Sequence[str] | None) -> pd.DataFrame:
    names = [n for n in part.settings() if n not in ("tensor", "seeds")]
    names = [n for n in (names if by is None else by) if n != "experiment" and part.knows(n)]
    keys = [_texts(part, name) for name in names] or [pd.Series("", part.rows.index)]
    tables = []
    for value in part.measured():
        column = part.rows[value]
        answers = pd.api.types.is_bool_dtype(column)
        groups = column.groupby(keys, sort=True)
        mean = groups.mean()
        scale = mean if answers else column.abs().groupby(keys, sort=True).mean()
        table = pd.DataFrame({"n": groups.count(), "mean": mean.astype(float), "scale": scale})
        table["cell"] = [_name(experiment, names, key) for key in table.index]
        tables.append(table[table["n"] > 0].assign(quantity=value, answers=answers))
    if not tables:
        return pd.DataFrame(columns=COLUMNS)
    return pd.concat(tables, ignore_index=True)[COLUMNS]


def _texts(part: Gathered, name: str) -> pd.Series:
    """Return a field as text for every row: of the rows if it leads, else rather of the units."""
    own = name in part.rows and (name in columns.LEADING or name not in part.units)
    values = part.rows[name] if own else part.rows[columns.KEY].map(part.units[name])
    codes, distinct = pd.factorize(values, use_na_sentinel=False)
    return pd.Series(np.array([short(v) for v in distinct], dtype=object)[codes], values.index)


def _name(experiment: str, names: Sequence[str], key: object) -> str:
    values = key if isinstance(key, tuple) else (key,)
    pairs = zip(names, values, strict=False)  # without names all rows are one cell
    return "; ".join([experiment, *(f"{n}={v}" for n, v in pairs if v != "none")])


def _of_table(path: Path) -> pd.DataFrame:
    """Return the numbers of a table; its rows are named by their texts, equal ones are counted."""
    table = read_csv(path)
    texts = [c for c in table if not pd.api.types.is_numeric_dtype(table[c])]
    intervals = [c for c in texts if table[c].astype(str).str.contains(_INTERVAL).any()]
    naming = [c for c in texts if c not in (*intervals, "verdict")]
    cells, seen = [], Counter[str]()
    for row in table.to_dict("records"):
        named = [f"{c}={short(row[c])}" for c in naming if row[c] == row[c]]
        name = "; ".join([f"tables/{path.name}", *named])
        seen[name] += 1
        name += f"; row {seen[name]}" if seen[name] > 1 else ""
        for c in (c for c in table if c not in (*naming, "verdict")):
            found = _NUMBER.findall(str(row[c])) if c in intervals else [row[c]]
            for k, value in enumerate(map(float, found), 1):
                quantity = str(c) if len(found) == 1 else f"{c} ({k})"
                cells.append((name, quantity, 1, value, abs(value), False))
    made = pd.DataFrame(cells, columns=COLUMNS)
    return made[made["mean"].notna()]
