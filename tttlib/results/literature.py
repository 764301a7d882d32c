"""Published numbers, and our own beside them."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources

import pandas as pd

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
