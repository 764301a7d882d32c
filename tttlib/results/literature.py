"""Published numbers, and our own beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import pandas as pd

from tttlib.results.mixing import short
from tttlib.results.summaries import need_columns


def published(name: str) -> pd.DataFrame:
    """A published table: source, citation, method, domain, severity, metric, value (%), protocol.

    Raises ValueError for an unknown name, listing the known ones.
    """
    folder = resources.files("tttlib") / "published"
    known = sorted(f.name[:-4] for f in folder.iterdir() if f.name.endswith(".csv"))
    if name not in known:
        raise ValueError(f"unknown published table {name!r}; known are {', '.join(known)}")
    with (folder / f"{name}.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file)


def compare_with_published(
    summary: pd.DataFrame, name: str, on: Sequence[str] = ("method", "domain")
) -> pd.DataFrame:
    """`summary` (accuracy as fractions) in per cent beside the published values matched on `on`.

    Adds columns published, published_method, difference, source and protocol. A row that nothing
    was published for keeps empty ones; published rows without a match are left out. To compare with
    a method of another name, give `summary` a column `published_method` and name it in `on`.
    """
    table = published(name)
    table = table[table["metric"] == "accuracy"]
    table = table.assign(published_method=table["method"])
    on = list(on)
    need_columns(summary, [*on, "mean", "low", "high"])
    need_columns(table, on)
    kept = [c for c in ("value", "published_method", "source", "protocol") if c not in on]
    ours = summary.assign(**{c: 100 * summary[c] for c in ("mean", "low", "high")})
    merged = ours.merge(table[[*on, *kept]], on=on, how="left", validate="m:1").rename(
        columns={"value": "published"}
    )
    return merged.assign(difference=merged["mean"] - merged["published"])


def beside_published(
    table: pd.DataFrame,
    name: str,
    fixed: Mapping[str, Any] | None = None,
    where: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """A summary of accuracies in per cent, with published ones beside it.

    fixed  what all rows of `table` share, such as the method
    where  which of the published rows (column -> value) count
    Rows match on the method (also by our name of it), domain and severity, as far as the published
    table has them and `where` does not choose them. Published errors are turned into accuracies.
    Adds columns published, difference and source. Raises ValueError when several published numbers
    match one row, naming a column that tells them apart.
    """
    theirs = _accuracies(name, where or {})
    ours = table.assign(**{c: 100 * table[c] for c in ("mean", "low", "high")})
    ours = ours.assign(**{c: v for c, v in (fixed or {}).items() if c not in ours})
    pairs = {
        "method": "name" if "name" in theirs else "method",
        "domain": "domain",
        "severity": "severity",
    }
    pairs = {a: b for a, b in pairs.items() if a in ours and b in theirs and a not in (where or {})}
    if "domain" not in pairs:
        raise ValueError("published numbers are by domain: name it in --by, or leave --by out")
    keys = list(pairs)
    left = ours[keys].map(short)
    right = theirs[[*pairs.values()]].map(short).set_axis(keys, axis="columns")
    right = right.assign(published=theirs["accuracy"], source=theirs["source"])
    twice = theirs[right.duplicated(keys, keep=False)]
    if len(twice):
        told = next(str(c) for c in theirs if c not in pairs.values() and twice[c].nunique() > 1)
        values = ", ".join(twice[told].map(short).unique())
        raise ValueError(
            f"{name} has several numbers for one row: {told} is {values}; pick one with "
            f"--published-where {told}=…"
        )
    found = left.merge(right, on=keys, how="left").set_index(table.index)
    found = ours[table.columns].assign(published=found["published"], source=found["source"])
    return found.assign(difference=found["mean"] - found["published"])


def _accuracies(name: str, where: Mapping[str, Any]) -> pd.DataFrame:
    """The rows of a published table with these values, with a column `accuracy` in per cent."""
    table = published(name)
    table = table[table["metric"].isin(["accuracy", "error"])]
    for column, wanted in where.items():
        if column not in table:
            known = ", ".join(map(str, table.columns))
            raise ValueError(f"{name} has no column {column!r}; it has {known}")
        values = table[column].map(short)
        if not (values == short(wanted)).any():
            known = ", ".join(sorted(values.unique()))
            raise ValueError(f"{name} has no {column} = {wanted!r}; it has {known}")
        table = table[values == short(wanted)]
    error = table["metric"] == "error"
    return table.assign(accuracy=table["value"].where(~error, 100 - table["value"]))
