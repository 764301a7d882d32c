"""Errors of adaptation methods as the papers print them, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from tttlib import corruptions, results, statistics, streams

PAIR = ("seed", "order", "block", "domain", "severity", "second_severity", "id")
"""The columns that identify one arrival for every method."""

MEASURES = ("error", "ece", "nll", "brier")
"""What an answer is measured by; less is better."""

_SHORT = (
    "gauss", "shot", "impul", "defoc", "glass", "motn", "zoom", "snow", "frost", "fog", "brit",
    "contr", "elast", "pixel", "jpeg",
)  # fmt: skip


def with_error(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with a column `error`: 1 where the prediction is wrong, else 0."""
    return rows.assign(error=1.0 - rows["correct"].astype("float64"))


def error_table(rows: pd.DataFrame, *, clusters: Sequence[str] = ()) -> pd.DataFrame:
    """Return the error in % of each corruption and of their mean, one row per method.

    Columns: method, one per corruption (short names), mean, low, high (95 % bootstrap interval of
    the mean over images), n. The mean is over arrivals of `rows` (with `error`), clean ones left
    out; with as many images of each corruption it is the papers' unweighted mean of corruptions.
    """
    rows = rows[rows["domain"] != streams.CLEAN]
    single = 100 * rows.pivot_table("error", "method", "domain", sort=False)
    names = [name for name in corruptions.NAMES if name in single]
    single = single[names].rename(columns=short).round(1)
    n = rows.groupby("method").size()
    return single.join(_mean_errors(rows, clusters).assign(n=n)).reset_index()


def measures_table(rows: pd.DataFrame, *, clusters: Sequence[str] = ()) -> pd.DataFrame:
    """Return error, calibration and certainty of each method: one row per method and measure.

    Columns: method, measure (`MEASURES`: error and expected calibration error as fractions,
    negative log-likelihood in nats, Brier score from 0 to 2; less is better), n, mean, low, high
    (95 % over images). Clean arrivals are left out; `rows` have `error`.
    """
    rows = rows[rows["domain"] != streams.CLEAN]
    tables = [
        results.summarise(rows, "method", value=name, clusters=clusters).assign(measure=name)
        for name in MEASURES
    ]
    columns = ["method", "measure", "n", "mean", "low", "high"]
    return pd.concat(tables, ignore_index=True)[columns]


def against(
    rows: pd.DataFrame,
    baseline: str,
    *,
    value: str = "error",
    groups: Sequence[str] = (),
    clusters: Sequence[str] = (),
) -> pd.DataFrame:
    """Return each method's error minus that of `baseline` over the same arrivals, in fractions.

    Columns groups…, method, n, difference, low, high (paired intervals); clean arrivals are left
    out. `value` is another of `MEASURES` to compare.
    """
    rows = rows[rows["domain"] != streams.CLEAN]
    return results.paired_difference(
        rows,
        groups,
        method_column="method",
        baseline=baseline,
        match=[name for name in PAIR if name in rows],
        value=value,
        clusters=clusters,
    )


def best_beyond_chance(
    rows: pd.DataFrame, *, clusters: Sequence[str] = ()
) -> tuple[Any, pd.DataFrame]:
    """Return which setting to use, and a table of all: columns setting, error in %, used.

    `rows` (with `error`) name their setting in the column `method`. The first setting, say a
    paper's, is used unless another has a lower error by more than chance (95 % interval of the
    paired difference): the lowest of several errors on a few hundred images would be luck.
    """
    errors = rows.groupby("method", sort=False)["error"].mean()
    first = errors.index[0]
    change = against(rows, first, clusters=clusters).set_index("method")
    best = errors[[first, *change.index[change["high"] < 0]]].idxmin()
    table = (100 * errors).round(1).rename_axis("setting").rename("error, %").reset_index()
    return best, table.assign(used=table["setting"] == best)


def by_constant(ablation: pd.DataFrame, used: Mapping[str, float]) -> pd.DataFrame:
    """Return the rows of an ablation that change a constant, for `plots.error_by_constant`.

    Parameters
    ----------
    ablation
        Rows of `against` whose method is "CONSTANT VALUE", among others.
    used
        The constants that are wanted, and the value that the ablation starts from: its difference
        is 0, without an interval. A constant that the ablation leaves alone is left out.
    """
    parts = ablation["method"].str.extract(r"^(?P<constant>.+) (?P<value>[\d.e+-]+)$")
    changed = ablation.join(parts)[parts["constant"].isin([*used])]
    base = [
        {"constant": name, "value": value, "difference": 0.0}
        for name, value in used.items()
        if (changed["constant"] == name).any()
    ]
    together = pd.concat([changed, pd.DataFrame(base)], ignore_index=True)
    return together.astype({"value": float})[["constant", "value", "difference", "low", "high"]]


def accumulation(
    rows: pd.DataFrame, method: str, baseline: str, *, clusters: Sequence[str] = ()
) -> pd.Series:
    """Return how much more `method` exceeds `baseline` at the end of a stream than at its begin.

    The excess is error minus the baseline's over the same arrivals. That of the last third of the
    corrupted blocks minus that of the first third: above zero, the method falls behind along the
    stream, whatever it is worth in the mean. A row with difference, low, high and n. If every block
    shows the same images, an image is compared with itself and n counts images (of several orders,
    images in an order); if blocks show other images, the thirds are independent and n counts those
    of both.
    """
    rows = rows[(rows["domain"] != streams.CLEAN) & rows["method"].isin([method, baseline])]
    third = pd.qcut(rows["block"].rank(method="dense"), [0, 1 / 3, 2 / 3, 1], labels=False)
    rows = rows.assign(third=third)[third != 1]
    if set(rows.loc[rows["third"] == 0, "id"]).isdisjoint(rows.loc[rows["third"] == 2, "id"]):
        excesses = against(rows, baseline, groups=["third"], clusters=clusters).set_index("third")
        first, last = (
            statistics.Interval(*excesses.loc[k, ["difference", "low", "high", "n"]])
            for k in (0, 2)
        )
        change = statistics.difference_of_means(first, last)._asdict()
        return pd.Series({"difference": change.pop("mean"), **change})
    # Two thirds hold different corruptions, so an image is compared by its mean in each.
    image = ["third", "method", *(c for c in ("seed", "order") if c in rows), "id", *clusters]
    image = list(dict.fromkeys(image))
    means = rows.groupby(image, sort=False)["error"].mean().unstack("method")
    excess = (means[method] - means[baseline]).rename("excess").reset_index()
    return results.paired_difference(
        excess,
        method_column="third",
        baseline=0,
        match=[c for c in image if c not in ("third", "method", *clusters)],
        value="excess",
        clusters=clusters,
    ).iloc[0]


def by_thirds(
    rows: pd.DataFrame, method: str, baseline: str, *, clusters: Sequence[str] = ()
) -> pd.DataFrame:
    """Return `against` for one method in the first, second and last five blocks of a stream.

    The column `place` names them: 1-5, 6-10 and 11-15. Later blocks are left out.
    """
    rows = rows[rows["method"].isin([method, baseline]) & (rows["block"] < 15)]
    place = rows["block"].floordiv(5).map({0: "1-5", 1: "6-10", 2: "11-15"})
    return against(rows.assign(place=place), baseline, groups=["place"], clusters=clusters)


def power(differences: pd.DataFrame, arrivals: int) -> pd.DataFrame:
    """Return how often methods disagree with a baseline, and what difference could be told.

    Parameters
    ----------
    differences
        From `against`.
    arrivals
        Of different images, in the comparison that is planned.

    Returns
    -------
    DataFrame
        Columns method, n, disagree (% of n answers) and told, the smallest difference, in points,
        that `statistics.smallest_margin` gives.
    """
    flips = (differences["mended"] + differences["broken"]) / differences["n"]
    told = [round(100 * statistics.smallest_margin(arrivals, share), 1) for share in flips]
    return differences[["method", "n"]].assign(disagree=(100 * flips).round(1), told=told)


def gradual_table(rows: pd.DataFrame, *, clusters: Sequence[str] = ()) -> pd.DataFrame:
    """Return the three averages of the gradual setting in %, each with its interval.

    "all" is over all blocks (PALM's code), "severity 5" over the blocks of that severity, "rising"
    over severities 1 to 5 on the way up (the caption of PALM's table 4).
    """
    first = rows[rows["method"] == rows["method"].iloc[0]]
    up = set(first.loc[streams.rising(first), "block"])
    choices = {
        "all": rows,
        "severity 5": rows[rows["severity"] == 5],
        "rising": rows[rows["block"].isin(up)],
    }
    parts = [_mean_errors(part, clusters).add_prefix(f"{name}, ") for name, part in choices.items()]
    return pd.concat(parts, axis=1).reset_index()


def published_errors(dataset: str, *, setting: str = "continual") -> pd.Series:
    """Return PALM's published mean error in %, by our name of the method."""
    table = results.published("palm").set_index("name")
    kept = (table["dataset"] == dataset) & (table["setting"] == setting)
    return table.loc[kept & (table["domain"] == "mean"), "value"]


def short(name: str) -> str:
    """Return the papers' abbreviation of a corruption: gaussian_noise -> gauss."""
    return dict(zip(corruptions.NAMES, _SHORT, strict=True)).get(name, name)


def _mean_errors(rows: pd.DataFrame, clusters: Sequence[str]) -> pd.DataFrame:
    """Return mean, low and high of the error of each method, in %."""
    means = results.summarise(rows, "method", value="error", clusters=clusters)
    return (100 * means.set_index("method")[["mean", "low", "high"]]).round(1)
