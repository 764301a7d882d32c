"""Published numbers, and our own beside them."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from typing import Any

import pandas as pd

from tttlib.results.columns import short


def published(name: str) -> pd.DataFrame:
    """Return a published table.

    Its columns are source, citation, method, domain, severity, metric, value (%), protocol.

    Raises
    ------
    ValueError
        For an unknown name; the message lists the known ones.
    """
    folder = resources.files("tttlib") / "published"
    known = sorted(f.name[:-4] for f in folder.iterdir() if f.name.endswith(".csv"))
    if name not in known:
        raise ValueError(f"unknown published table {name!r}; known are {', '.join(known)}")
    with (folder / f"{name}.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file)


def beside_published(
    table: pd.DataFrame,
    name: str,
    fixed: Mapping[str, Any] | None = None,
    where: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """Return a summary of accuracies in per cent, with published ones beside it.

    Rows match on the method (also by our name of it), domain and severity, as far as the published
    table has them and `where` does not choose them. Published errors are turned into accuracies.

    Parameters
    ----------
    table
        A summary with columns mean, low and high (fractions).
    name
        Name of the published table.
    fixed
        What all rows of `table` share, such as the method.
    where
        Which of the published rows (column -> value) count.

    Returns
    -------
    DataFrame
        `table` in per cent with the columns published, difference and source; they are empty where
        nothing was published.

    Raises
    ------
    ValueError
        When several published numbers match one row (the message names a column that tells them
        apart), for a table without domains, and for an unknown name, column or value.
    """
    where = where or {}
    theirs = _accuracies(name, where)
    ours = table.assign(**{c: 100 * table[c] for c in ("mean", "low", "high")})
    ours = ours.assign(**{c: v for c, v in (fixed or {}).items() if c not in ours})
    pairs = {name: name for name in ("method", "domain", "severity")}
    pairs |= {"method": "name"} if "name" in theirs else {}
    pairs = {a: b for a, b in pairs.items() if a in ours and b in theirs and a not in where}
    if "domain" not in pairs:
        raise ValueError("published numbers are by domain: name it in --by, or leave --by out")
    keys = list(pairs)
    left = ours[keys].map(short)
    right = theirs[[*pairs.values()]].map(short).set_axis(keys, axis="columns")
    right = right.assign(published=theirs["accuracy"], source=theirs["source"])
    repeated = theirs[right.duplicated(keys, keep=False)]
    if len(repeated):
        varies = (c for c in theirs if c not in pairs.values() and repeated[c].nunique() > 1)
        column = str(next(varies))
        values = ", ".join(repeated[column].map(short).unique())
        words = f"{name} has several numbers for one row: {column} is {values}"
        raise ValueError(f"{words}; pick one with --published-where {column}=…")
    matched = left.merge(right, on=keys, how="left").set_index(table.index)
    merged = ours[table.columns].assign(published=matched["published"], source=matched["source"])
    return merged.assign(difference=merged["mean"] - merged["published"])


def _accuracies(name: str, where: Mapping[str, Any]) -> pd.DataFrame:
    """Return the rows of a published table with these values; `accuracy` is in per cent."""
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
