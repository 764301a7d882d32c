"""Tables over many units: chosen rows averaged by the settings that vary."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from tttlib.results import columns, mixing
from tttlib.results.columns import KEY, short
from tttlib.results.folders import Gathered, gather
from tttlib.results.summaries import columns_of, summarise

log = logging.getLogger(__name__)

LAST = "last"
"""`where={"step": "last"}`: the last answers of every unit."""


class Summary(NamedTuple):
    """Mean, interval and n of one experiment's rows.

    Attributes
    ----------
    experiment
        Its name.
    value
        The averaged column; None where there are several.
    table
        The columns of `by`, quantity, n, mean, low, high (fractions where a value is right or
        wrong); `quantity` only where there are several. Rows that are no images (shares of
        variance, verdicts) have their own intervals: the columns of `by`, n, and the means of all
        measured columns.
    fixed
        The settings that all rows share.
    notes
        What a reader must know of how the rows came about.
    """

    experiment: str
    value: str | None
    table: pd.DataFrame
    fixed: dict[str, Any]
    notes: list[str]


def tabulate(
    folders: Sequence[str | Path],
    *,
    by: Sequence[str] | None = None,
    where: Mapping[str, Any] | None = None,
    value: str | None = None,
    allow_mixed: Sequence[str] = (),
    level: float = 0.95,
    refused: list[ValueError] | None = None,
) -> list[Summary]:
    """Return one summary for each experiment in `folders` (runs, sweeps, results folders).

    Intervals are bootstrap ones over images, clustered where the dataset says so.

    Parameters
    ----------
    folders
        Folders as `result_files` takes them.
    by
        Columns, or fields of the units; None: those settings that vary.
    where
        Name -> value, or list of values; `columns.of_unit` names what units know. "step": "last"
        takes the last answers of each unit.
    value
        The column to average, or "ece"; None: `correct`, or every measured one where there is none.
    allow_mixed
        Fields that may differ within a mean.
    level
        Of the intervals.
    refused
        Collects the errors of single experiments, which are raised without it.

    Raises
    ------
    ValueError
        For a mean that would mix settings or count an image twice (`mixing.check`), for unknown
        names, and when no row is left.
    """
    gathered, left_out = gather(folders)
    chosen = select(gathered, where or {})
    _check_names(chosen, [*(by or ()), *(columns_of(value) if value else ())])
    summaries = []
    for experiment, part in chosen.items():
        shown = [name for name in by if part.knows(name)] if by is not None else varying(part)
        values = _values(part, value)
        if not values or (by and not shown):
            log.info("%s has nothing to show for this", experiment)
            continue
        try:
            mixing.check(part, shown, allow_mixed)
        except ValueError as error:
            if refused is None:
                raise
            refused.append(ValueError(f"{experiment}: {error}"))
            continue
        table = _in_order(_averaged(part, shown, values, level), shown)
        notes = [*left_out, *mixing.notes(part)]
        only = values[0] if len(values) == 1 else None
        summaries.append(Summary(experiment, only, table, _fixed(part, shown), notes))
    if not summaries and not refused:
        raise ValueError(f"no experiment has what was asked for; there are {', '.join(chosen)}")
    return summaries


def select(experiments: Mapping[str, Gathered], where: Mapping[str, Any]) -> dict[str, Gathered]:
    """Return the experiments' rows with these values; experiments without any are left out.

    Raises
    ------
    ValueError
        For an unknown name, and when no row is left.
    """
    chosen = dict(experiments)
    _check_names(chosen, list(where))
    for name, wanted in where.items():
        legal: set[str] = set()
        left = {}
        for experiment, part in chosen.items():
            if not part.knows(name):
                continue
            mask = _matches(part, name, wanted)
            legal |= {short(v) for v in part.values(name).unique()[:100]}
            if mask.any():
                left[experiment] = part.where(mask)
        if not left:
            known = ", ".join(sorted(legal)[:20]) or "none"
            raise ValueError(f"no rows with {name} = {wanted!r}; there are {known}")
        chosen = left
    return chosen


def varying(part: Gathered) -> list[str]:
    """Return the settings with several values.

    Those that are not in `columns.LEADING` count only when they divide the rows further.
    """
    names = [n for n in part.settings() if part.values(n).map(repr).nunique() > 1]
    table = part.distinct([*names, KEY])
    chosen: list[str] = []
    groups = 1
    for name in names:
        wider = len(table[[*chosen, name]].map(repr).drop_duplicates())
        if wider > groups or name in columns.LEADING:
            chosen.append(name)
            groups = wider
    return chosen


def _matches(part: Gathered, name: str, wanted: Any) -> pd.Series:
    values = part.values(name)
    if name == "step" and wanted == LAST:
        return values == part.rows.groupby(KEY)["step"].transform("max")
    accepted = {short(w) for w in (wanted if isinstance(wanted, list) else [wanted])}
    return values.map(short).isin(accepted)


def _check_names(experiments: Mapping[str, Gathered], names: Sequence[str]) -> None:
    for name in names:
        if not any(part.knows(name) for part in experiments.values()):
            legal = {n for p in experiments.values() for n in (*p.rows.columns, *p.units.columns)}
            raise ValueError(f"no column or field {name!r}; there are {', '.join(sorted(legal))}")


def _values(part: Gathered, value: str | None) -> list[str]:
    known = part.measured()
    if value is None:
        return ["correct"] if "correct" in known else known
    return [value] if set(columns_of(value)) <= {*part.rows} else []


def _averaged(part: Gathered, by: list[str], values: list[str], level: float) -> pd.DataFrame:
    rows = part.rows.assign(**{n: part.values(n) for n in by if n not in part.rows})
    if "id" not in rows:
        return _as_they_are(rows, by, values)
    inside = {"photograph"} if "tile" in rows else set()  # as the population "scenes" has it
    clusters = [c for c in columns.CLUSTERS if c in rows and c not in inside]
    measured = {value: rows.dropna(subset=[*columns_of(value)]) for value in values}
    how: dict[str, Any] = {"clusters": clusters, "level": level}
    tables = [
        summarise(kept, by, value=value, **how).assign(quantity=value)
        for value, kept in measured.items()
        if len(kept)
    ]
    shown = [*by, *["quantity"][: len(values) - 1], "n", "mean", "low", "high"]
    return pd.concat(tables, ignore_index=True)[shown]


def _in_order(table: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Sort by the settings, numbers as numbers, clean first."""

    def rank(column: pd.Series) -> pd.Series:
        if pd.api.types.is_numeric_dtype(column):
            return column
        return column.map(lambda v: "" if v == "clean" else short(v))

    return table.sort_values(by, key=rank, kind="stable", ignore_index=True) if by else table


def _as_they_are(rows: pd.DataFrame, by: list[str], values: list[str]) -> pd.DataFrame:
    """Average rows that are no single images; n is their own where each group is one row."""
    groups = rows.groupby(by, sort=False, dropna=False) if by else rows.groupby(lambda _: 0)
    table = groups[values].mean()
    own = groups["n"].first() if "n" in rows and len(table) == len(rows) else groups.size()
    table.insert(0, "n", own)
    return table.reset_index(drop=not by)


def _fixed(part: Gathered, by: list[str]) -> dict[str, Any]:
    names = [n for n in part.settings() if n not in by and n != "experiment"]
    values = {n: part.values(n).unique() for n in names}
    return {n: v[0] for n, v in values.items() if len(v) == 1 and short(v[0]) != "none"}
