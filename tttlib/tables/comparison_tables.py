"""Many methods along one stream: errors, certainty, and what is published beside them."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from tttlib import results, statistics
from tttlib.results.summaries import ECE
from tttlib.tables.adaptation_tables import against, measures_table


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
    together = measures_table(rows, clusters=clusters).groupby("measure")
    means = {name: part.set_index("method") for name, part in together}
    error = means["error"]
    table = pd.DataFrame({"n": error["n"], "error": 100 * error["mean"]})
    table = table.assign(low=100 * error["low"], high=100 * error["high"])
    to_palm = against(rows, "palm", clusters=clusters)
    table[["minus palm", "palm low", "palm high"]] = _points(to_palm, table.index)
    table["ece"] = 100 * means[ECE]["mean"]
    to_source = against(rows, "source", value=ECE, clusters=clusters)
    table[["ece minus source", "ece low", "ece high"]] = _points(to_source, table.index)
    for name in ("nll", "brier"):
        table[name] = means[name]["mean"]
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


def _points(table: pd.DataFrame, methods: pd.Index) -> pd.DataFrame:
    differences = table.set_index("method")[["difference", "low", "high"]].astype("float64")
    return 100 * differences.reindex(methods)
