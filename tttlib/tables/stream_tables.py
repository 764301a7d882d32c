"""Rows of several methods on one stream, side by side: what notebook 03 draws and tests."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from tttlib import results, statistics

PAIR = ("domain", "severity", "id")
"""What identifies one arrival in every order of a stream."""


def arrivals(rows: pd.DataFrame, method: str) -> pd.DataFrame:
    """The last prediction of every arrival, as `method`; held-out rows are left out."""
    if "part" in rows:
        rows = rows[rows["part"] == "stream"]
    if "step" in rows:
        rows = rows[rows["step"] == rows["step"].max()]
    return rows.assign(method=method)


def on_pairs(rows: pd.DataFrame, wanted: pd.DataFrame) -> pd.DataFrame:
    """The rows whose image and corruption occur in `wanted` too.

    Raises ValueError when a pair of `wanted` is missing from `rows`.
    """
    columns = list(PAIR) + (["seed"] if "seed" in rows and "seed" in wanted else [])
    keys = wanted[columns].drop_duplicates()
    kept = rows.merge(keys, on=columns)
    missing = len(keys) - len(kept[columns].drop_duplicates())
    if missing:
        raise ValueError(f"{missing} of {len(keys)} pairs of image and corruption are missing")
    return kept


def mean_over(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """`correct` of every pair as its mean over the values of `column`: one row per pair."""
    keys = [*PAIR, *(["seed"] if "seed" in rows else [])]
    means = rows.groupby(keys, sort=False)["correct"].mean()
    first = rows.drop_duplicates(keys).drop(columns=["correct", column])
    return first.merge(means.reset_index(), on=keys)


def heldout_change(rows: pd.DataFrame, clusters: Sequence[str] = ()) -> pd.DataFrame:
    """Held-out accuracy after the whole stream minus before it, same images, with interval.

    rows  of `evaluate.online` with held-out images, of one or several seeds
    Columns: images ("corrupted" or "clean"), n, difference, low, high (fractions).
    Raises ValueError for rows without held-out images.
    """
    held = rows[rows["part"] == "held-out"]
    if held.empty:
        raise ValueError("no held-out rows; give evaluate.online(heldout=...)")
    ends = held["position"].isin([held["position"].min(), held["position"].max()])
    held = held[ends].assign(
        images=np.where(held.loc[ends, "domain"] == "clean", "clean", "corrupted"),
        when=np.where(held.loc[ends, "position"] == 0, "start", "end"),
    )
    return results.paired_difference(
        held,
        "images",
        method_column="when",
        baseline="start",
        match=("seed", *PAIR),
        clusters=clusters,
    ).drop(columns="when")


def moving_averages(
    rows: pd.DataFrame, window: int, *, by: Sequence[str] = ("method",)
) -> pd.DataFrame:
    """Moving average of `correct` along each stream: columns by…, position, mean.

    rows  of `arrivals`; `position` is that of the window's last arrival
    """
    parts = []
    for _, part in rows.groupby(list(by), sort=False):
        part = part.sort_values("position")
        mean = statistics.moving_average(part["correct"], window)
        table = pd.DataFrame({"position": part["position"].to_numpy()[window - 1 :], "mean": mean})
        for name in by:
            table[name] = part[name].iloc[0]
        parts.append(table)
    return pd.concat(parts, ignore_index=True)


def fluctuations(
    rows: pd.DataFrame, source: pd.DataFrame, window: int, *, seed: int = 0
) -> pd.DataFrame:
    """Permutation tests of a method's moving average, the source's, and their difference.

    rows, source  of `arrivals`, one stream each, the same arrivals
    The difference per arrival removes what is easy or hard about the images, which the source
    meets too: what is left is the model's own drift.
    Columns: sequence, n, window, ratio, low, high, p (see `statistics.fluctuation`); of a
    sequence whose values are all equal nothing can be said: its ratio, low, high and p are NaN.
    Raises ValueError when the two did not see the same arrivals in the same order.
    """
    rows, source = (t.sort_values("position") for t in (rows, source))
    if rows[list(PAIR)].to_numpy().tolist() != source[list(PAIR)].to_numpy().tolist():
        raise ValueError("method and source did not see the same arrivals in the same order")
    adapted, fixed = (t["correct"].to_numpy(dtype="float64") for t in (rows, source))
    records = []
    for name, values in {
        "adapted": adapted,
        "source": fixed,
        "adapted - source": adapted - fixed,
    }.items():
        same = bool(np.ptp(values) == 0)
        found = None if same else statistics.fluctuation(values, window, seed=seed)
        record = {"sequence": name, "n": len(values), "window": window}
        tests = ("ratio", "low", "high", "p")
        records.append(record | {k: getattr(found, k, float("nan")) for k in tests})
    return pd.DataFrame(records)
