"""Rows of several methods on one stream, side by side: what notebook 03 draws and tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from tttlib import results, statistics

PAIR = ("domain", "severity", "id")
"""The columns that identify one arrival in every order of a stream."""


def arrivals(rows: pd.DataFrame, method: str) -> pd.DataFrame:
    """Return the last prediction of every arrival, as `method`; held-out rows are left out."""
    if "part" in rows:
        rows = rows[rows["part"] == "stream"]
    if "step" in rows:
        rows = rows[rows["step"] == rows["step"].max()]
    return rows.assign(method=method)


def on_pairs(rows: pd.DataFrame, wanted: pd.DataFrame) -> pd.DataFrame:
    """Return the rows whose image and corruption occur in `wanted` too.

    A pair of `wanted` that is missing from `rows` raises a ValueError.
    """
    columns = list(PAIR) + (["seed"] if "seed" in rows and "seed" in wanted else [])
    keys = wanted[columns].drop_duplicates()
    kept = rows.merge(keys, on=columns)
    missing = len(keys) - len(kept[columns].drop_duplicates())
    if missing:
        raise ValueError(f"{missing} of {len(keys)} pairs of image and corruption are missing")
    return kept


def side_by_side(
    source: pd.DataFrame, standard: pd.DataFrame, online: pd.DataFrame
) -> pd.DataFrame:
    """Return source, standard TTT after each number of steps, and online TTT on the same arrivals.

    Parameters
    ----------
    source, online
        Rows of `arrivals`.
    standard
        Rows of `evaluate.standard` on all or some of them, with those of step 0.

    Returns
    -------
    DataFrame
        The rows of the arrivals that all have seen, with method "source", "standard, k" for each
        number of steps k, or that of `online`.
    """
    same = standard[standard["step"] == 0]
    steps = [k for k in sorted(standard["step"].unique()) if k]
    return pd.concat(
        [on_pairs(source, same).assign(method="source")]
        + [standard[standard["step"] == k].assign(method=f"standard, {k}") for k in steps]
        + [on_pairs(online, same)]
    )


def split_names(rows: pd.DataFrame) -> pd.DataFrame:
    """Split names of streams such as "levels, rising" into stream and method.

    Rows of the method "source" keep it: the order in which images arrive does not change them.
    """
    parts = rows["stream"].str.split(", ")
    order = parts.str[1].mask(rows["method"] == "source", "source")
    return rows.assign(stream=parts.str[0], method=order)


def mean_over(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return one row per pair, with `correct` as its mean over the values of `column`."""
    keys = [*PAIR, *(["seed"] if "seed" in rows else [])]
    means = rows.groupby(keys, sort=False)["correct"].mean()
    first = rows.drop_duplicates(keys).drop(columns=["correct", column])
    return first.merge(means.reset_index(), on=keys)


def heldout_change(rows: pd.DataFrame, clusters: Sequence[str] = ()) -> pd.DataFrame:
    """Return held-out accuracy after the whole stream minus that before it, on the same images.

    Columns: images ("corrupted" or "clean"), n, difference, low, high (fractions). `rows` are those
    of `evaluate.online`, of one or several seeds; without held-out images a ValueError is raised.
    """
    held = rows[rows["part"] == "held-out"]
    if held.empty:
        raise ValueError("no held-out rows; give evaluate.online(heldout=...)")
    held = held[held["position"].isin([held["position"].min(), held["position"].max()])]
    held = held.assign(
        images=np.where(held["domain"] == "clean", "clean", "corrupted"),
        when=np.where(held["position"] == 0, "start", "end"),
    )
    return results.paired_difference(
        held,
        "images",
        method_column="when",
        baseline="start",
        match=("seed", *PAIR),
        clusters=clusters,
    ).drop(columns="when")


def heldout_at_end(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the answers of the last weights of each stream on its corrupted held-out images.

    `rows` are those of `evaluate.online` with the columns stream and seed; streams without held-out
    images are left out.
    """
    held = rows[(rows["part"] == "held-out") & (rows["domain"] != "clean")]
    keys = [name for name in ("network", "stream", "seed") if name in held]
    end = held.groupby(keys)["position"].transform("max")
    return held[held["position"] == end]


def accuracies(
    arrived: pd.DataFrame, online: pd.DataFrame, by: Sequence[str], clusters: Sequence[str] = ()
) -> pd.DataFrame:
    """Return the accuracy on what arrives and, of the last weights, on held-out images.

    Columns: those of `by`, n, mean, low, high (fractions) and images ("arrivals" or "held-out").
    `arrived` are rows of `arrivals`, `online` those of `evaluate.online`; both have the columns of
    `by`.
    """
    parts = {"arrivals": arrived, "held-out": heldout_at_end(online)}
    return pd.concat(
        results.summarise(rows, by, clusters=clusters).assign(images=images)
        for images, rows in parts.items()
    )


def moving_averages(
    rows: pd.DataFrame, window: int, *, by: Sequence[str] = ("method",)
) -> pd.DataFrame:
    """Return the moving average of `correct` along each stream: columns position, mean, by….

    `rows` are those of `arrivals`; `position` is that of the window's last arrival.
    """
    parts = []
    for _, part in rows.groupby(list(by), sort=False):
        part = part.sort_values("position")
        mean = statistics.moving_average(part["correct"], window)
        table = pd.DataFrame({"position": part["position"].to_numpy()[window - 1 :], "mean": mean})
        parts.append(table.assign(**{name: part[name].iloc[0] for name in by}))
    return pd.concat(parts, ignore_index=True)


def along(
    source: pd.DataFrame, online: pd.DataFrame, window: int, clusters: Sequence[str] = ()
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return what `plots.along_stream` draws of several streams, one panel for each.

    Parameters
    ----------
    source, online
        Rows of the unadapted network and of `evaluate.online`, with a column "stream"; streams of
        `online` that `source` lacks are drawn without its curve.
    window
        Length of the moving average; a shorter stream gets a quarter of its length.
    clusters
        Of the intervals of held-out accuracy.

    Returns
    -------
    curves, heldout : pandas.DataFrame
        The moving averages, and the accuracy on corrupted held-out images, by stream and line.
    """
    parts = [arrivals(source, "").assign(line="source"), arrivals(online, "").assign(line="online")]
    curves = [
        moving_averages(part, min(window, max(1, len(part) // 4)), by=["stream", "line"])
        for rows in parts
        for _, part in rows.groupby("stream", sort=False)
    ]
    held = online[(online["part"] == "held-out") & (online["domain"] != "clean")]
    points = results.summarise(held, ["stream", "position"], clusters=clusters)
    return pd.concat(curves, ignore_index=True), points.assign(line="held-out images")


def fluctuations(
    rows: pd.DataFrame,
    source: pd.DataFrame,
    window: int,
    *,
    permutations: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Test the moving average of a method, of the source, and of their difference for drift.

    The difference per arrival removes what is easy or hard about the images, which the source
    meets too: what is left is the model's own drift.

    Parameters
    ----------
    rows, source
        Rows of `arrivals`, one stream each, with the same arrivals.
    window
        Length of the moving average.
    permutations
        Number of random orders.
    seed
        Of the permutations.

    Returns
    -------
    pandas.DataFrame
        Columns sequence, n, window, ratio, low, high, p (see `statistics.fluctuation`). Of a
        sequence whose values are all equal nothing can be said: ratio, low, high and p are NaN.

    Raises
    ------
    ValueError
        When the two did not see the same arrivals in the same order.
    """
    rows, source = (t.sort_values("position") for t in (rows, source))
    if rows[list(PAIR)].to_numpy().tolist() != source[list(PAIR)].to_numpy().tolist():
        raise ValueError("method and source did not see the same arrivals in the same order")
    adapted, fixed = (t["correct"].to_numpy(dtype="float64") for t in (rows, source))
    sequences = {"adapted": adapted, "source": fixed, "adapted - source": adapted - fixed}
    records = []
    for name, values in sequences.items():
        drawn = {"permutations": permutations, "seed": seed}
        test = statistics.fluctuation(values, window, **drawn) if np.ptp(values) else None
        record = {"sequence": name, "n": len(values), "window": window}
        tested = {k: getattr(test, k, float("nan")) for k in ("ratio", "low", "high", "p")}
        records.append(record | tested)
    return pd.DataFrame(records)


def fluctuations_of_streams(
    rows: pd.DataFrame, source: pd.DataFrame, window: int, **options: int
) -> pd.DataFrame:
    """Return `fluctuations` of each stream and seed, with the columns stream and seed.

    A stream shorter than four windows gets a quarter of its length as its window. `source` may hold
    other streams besides; options are those of `fluctuations`.
    """
    parts = []
    for (stream, s), part in rows.groupby(["stream", "seed"], sort=False):
        same = source[(source["stream"] == stream) & (source["seed"] == s)]
        test = fluctuations(part, same, min(window, max(1, len(part) // 4)), **options)
        names: dict[str, Any] = {"stream": stream, "seed": s}
        parts.append(test.assign(**names))
    return pd.concat(parts, ignore_index=True)


def mean_ratios(tested: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Return the mean ratio of `fluctuations_of_streams` for each group, with Student's t.

    Columns: those of `by`, mean, low, high and n, the number of streams that fluctuate at all.
    """
    tested = tested.dropna(subset=["ratio"])
    return pd.DataFrame(
        {**dict(zip(by, key, strict=True)), **statistics.mean_of_few(part["ratio"])._asdict()}
        for key, part in tested.groupby(list(by), sort=False)
    )
