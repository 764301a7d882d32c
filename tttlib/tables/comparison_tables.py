"""Many methods along one stream: errors, certainty, and what is published beside them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from tttlib import results, statistics
from tttlib.results.summaries import ECE
from tttlib.tables.adaptation_tables import PAIR, against


def errors_and_certainty(rows: pd.DataFrame, *, clusters: Sequence[str] = ()) -> pd.DataFrame:
    """Return one row a method, the lowest error first.

    Parameters
    ----------
    rows
        Rows of `evaluate.adaptation` of several methods, PALM and the source among them, with
        `error`.
    clusters
        As in `results.summarise`.

    Returns
    -------
    DataFrame
        Columns method, n, error, low, high (%, 95 % interval), minus palm (points, with its bounds
        palm low and palm high), ece (expected calibration error, points), ece minus source (with
        ece low and ece high), nll (nats) and brier. Intervals of differences are paired.
    """
    means = {
        value: results.summarise(rows, "method", value=value, clusters=clusters).set_index("method")
        for value in ("error", ECE, "nll", "brier")
    }
    error = means["error"]
    table = pd.DataFrame({"n": error["n"], "error": 100 * error["mean"]})
    table = table.assign(low=100 * error["low"], high=100 * error["high"])
    to_palm = 100 * _differences(against(rows, "palm", clusters=clusters))
    table[["minus palm", "palm low", "palm high"]] = to_palm.reindex(table.index)
    table["ece"] = 100 * means[ECE]["mean"]
    match = [name for name in PAIR if name in rows]
    how: dict[str, Any] = {
        "method_column": "method",
        "baseline": "source",
        "match": match,
        "clusters": clusters,
    }
    to_source = 100 * _differences(results.paired_difference(rows, value=ECE, **how))
    table[["ece minus source", "ece low", "ece high"]] = to_source.reindex(table.index)
    table = table.assign(nll=means["nll"]["mean"], brier=means["brier"]["mean"])
    return table.sort_values("error", kind="stable").rename_axis("method").reset_index()


def published(preset: str, *, setting: str = "continual") -> dict[str, pd.Series]:
    """Return published mean errors in % by method: PALM's table, and the collection's by network.

    Keys say whose number it is, such as "published, ResNet-50"; each Series is by our name of the
    method, and empty for a preset without a published table.
    """
    palm = results.published("palm")
    modern = results.published("modern_ctta")
    of_palm = palm[(palm["dataset"] == preset) & (palm["setting"] == setting)]
    of_palm = of_palm[of_palm["domain"] == "mean"]
    found = {"published by PALM": of_palm.set_index("name")["value"]}
    theirs = modern[(modern["dataset"] == preset) & (modern["setting"] == setting)]
    for network, part in theirs[theirs["name"].notna()].groupby("network", sort=False):
        found[f"published, {network}"] = part.set_index("name")["value"]
    return found


def last_minus_first(by_round: pd.DataFrame, method: str) -> pd.Series:
    """Return how much a method's difference grew from the first round to the last.

    Rounds show other images, so their differences are taken as independent; where images come back
    in a later round the interval is too wide rather than too narrow.

    Parameters
    ----------
    by_round
        `adaptation_tables.against` by "round", of rows along `streams.recurring`.
    method
        One of them.

    Returns
    -------
    Series
        difference, low, high and n.

    Raises
    ------
    ValueError
        If there is only one round.
    """
    rounds = by_round[by_round["method"] == method].set_index("round").sort_index()
    if len(rounds) < 2:
        raise ValueError("a change over rounds needs two rounds or more")
    first, last = (
        statistics.Interval(*rounds[["difference", "low", "high", "n"]].iloc[k]) for k in (0, -1)
    )
    change = statistics.difference_of_means(first, last)._asdict()
    return pd.Series({"difference": change.pop("mean"), **change})


def _differences(table: pd.DataFrame) -> pd.DataFrame:
    return table.set_index("method")[["difference", "low", "high"]].astype("float64")
