"""Errors of adaptation methods as the papers print them, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from tttlib import corruptions, results, streams

PAIR = ("seed", "order", "block", "domain", "severity", "id")
"""What identifies one arrival for every method."""


def with_error(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with `error`: 1 where the prediction is wrong, else 0."""
    return rows.assign(error=1.0 - rows["correct"].astype("float64"))


def error_table(
    rows: pd.DataFrame, *, by: str = "method", clusters: Sequence[str] = ()
) -> pd.DataFrame:
    """Error in % of each corruption and of their mean: one row per value of `by`.

    rows  with `error`; clean arrivals are left out of the mean and have no column
    Columns: `by`, one per corruption (short names), mean, low, high (95 % bootstrap interval of the
    mean over images), n. The mean is over arrivals; with as many images of each corruption it is
    the papers' unweighted mean over corruptions.
    """
    rows = rows[rows["domain"] != streams.CLEAN]
    single = 100 * rows.pivot_table("error", by, "domain", sort=False)
    names = [name for name in corruptions.NAMES if name in single]
    single = single[names].rename(columns=short).round(1)
    mean = results.summarise(rows, by, value="error", clusters=clusters).set_index(by)
    found = (100 * mean[["mean", "low", "high"]]).round(1).assign(n=mean["n"])
    return single.join(found).reset_index()


def against(
    rows: pd.DataFrame,
    baseline: str,
    *,
    by: str = "method",
    groups: Sequence[str] = (),
    clusters: Sequence[str] = (),
) -> pd.DataFrame:
    """Error minus that of `baseline` over the same arrivals (fractions), paired intervals.

    Columns groups…, `by`, n, difference, low, high; clean arrivals are left out.
    """
    rows = rows[rows["domain"] != streams.CLEAN]
    match = [name for name in PAIR if name in rows]
    return results.paired_difference(
        rows,
        groups,
        method_column=by,
        baseline=baseline,
        match=match,
        value="error",
        clusters=clusters,
    )


def gradual_table(
    rows: pd.DataFrame, *, by: str = "method", clusters: Sequence[str] = ()
) -> pd.DataFrame:
    """The three averages of the gradual setting in %, each with its interval.

    all: over all blocks (PALM's code); severity 5: over the blocks of that severity; rising: over
    severities 1 to 5 on the way up (the caption of PALM's table 4).
    """
    first = rows[rows[by] == rows[by].iloc[0]]
    up = set(first.loc[streams.rising(first), "block"])
    choices = {
        "all": rows,
        "severity 5": rows[rows["severity"] == 5],
        "rising": rows[rows["block"].isin(up)],
    }
    parts = []
    for name, part in choices.items():
        found = results.summarise(part, by, value="error", clusters=clusters).set_index(by)
        found = 100 * found[["mean", "low", "high"]]
        found.columns = [f"{name}, {column}" for column in found]
        parts.append(found.round(1))
    return pd.concat(parts, axis=1).reset_index()


def published_errors(dataset: str, *, setting: str = "continual") -> pd.Series:
    """PALM's published mean error in % by our name of the method."""
    table = results.published("palm")
    kept = (table["dataset"] == dataset) & (table["setting"] == setting)
    table = table[kept & (table["domain"] == "mean")]
    return table.set_index("name")["value"]


def by_stage(diagnostics: pd.DataFrame, name: str = "importance") -> pd.DataFrame:
    """A diagnostic that is one number per tensor, by stage of the network.

    Columns domain, stage (the first part of the parameters' names), tensors, mean, zeros (share of
    tensors with the value 0). PALM, figure 2.
    """
    rows = diagnostics[(diagnostics["name"] == name) & (diagnostics["tensor"] != "")]
    rows = rows.assign(stage=rows["tensor"].str.split(".").str[0], zero=rows["value"] == 0)
    grouped = rows.groupby(["domain", "stage"], sort=False)
    return grouped.agg(
        tensors=("tensor", "nunique"), mean=("value", "mean"), zeros=("zero", "mean")
    ).reset_index()


def stage_contrast(stages: pd.DataFrame, column: str) -> pd.Series:
    """`column` of the network's first stage minus that of its last, by domain (see `by_stage`).

    What lies before and after the numbered stages (stem, last norm, classifier) does not count.
    """
    numbered = stages[stages["stage"].str.contains(r"\d$") & (stages["tensors"] > 2)]
    values = numbered.pivot_table(column, "domain", "stage", sort=False)
    first, last = min(values.columns), max(values.columns)
    return values[first] - values[last]


def selection(diagnostics: pd.DataFrame, sizes: Mapping[str, int]) -> pd.DataFrame:
    """What PALM selects, by tensor, in the network's order: one row per tensor.

    diagnostics  of PALM, see `adapt.palm.Palm`
    sizes        name of a tensor -> its number of elements
    Columns tensor, stage, elements, score (mean L1 norm of g; of a convolution that is not selected
    perhaps only a lower bound) and selected (share of the domains' batches).
    """
    rows = diagnostics[diagnostics["name"].isin(["score", "selected"])]
    table = rows.pivot_table("value", "tensor", "name", sort=False).reset_index()
    table.columns.name = None
    table = table.assign(
        stage=table["tensor"].str.split(".").str[0], elements=table["tensor"].map(sizes)
    )
    return table[["tensor", "stage", "elements", "score", "selected"]]


def changed_decisions(diagnostics: pd.DataFrame) -> pd.Series:
    """Share of PALM's decisions to select a tensor that differ from its usual one, by domain.

    A decision is one tensor in one batch, usual what befalls this tensor in most batches.
    """
    rows = diagnostics[diagnostics["name"] == "selected"]
    shares = rows.pivot_table("value", "domain", "tensor", sort=False)  # [domains, tensors]
    usual = (shares.mean() > 0.5).astype("float64")
    return (shares - usual).abs().mean(axis=1)


def rate_changes(diagnostics: pd.DataFrame) -> pd.DataFrame:
    """AutoLR's rates: columns layer, block, rate (mean over the block's batches), change.

    change  |rate / rate in the first block - 1|; the first block itself is left out
    """
    rows = diagnostics[(diagnostics["method"] == "autolr") & (diagnostics["name"] == "rates")]
    rows = rows.rename(columns={"tensor": "layer", "value": "rate"})
    # a long block is several units of work
    rows = rows.groupby(["layer", "block"], sort=False)["rate"].mean().reset_index()
    begins = rows["block"] == rows["block"].min()
    first = rows["layer"].map(rows[begins].set_index("layer")["rate"])
    return rows.assign(change=(rows["rate"] / first - 1).abs())[~begins].reset_index(drop=True)


def short(name: str) -> str:
    """The papers' abbreviation of a corruption: gaussian_noise -> gauss."""
    return _SHORT.get(name, name)


_SHORT = dict(
    zip(
        corruptions.NAMES,
        [
            "gauss",
            "shot",
            "impul",
            "defoc",
            "glass",
            "motn",
            "zoom",
            "snow",
            "frost",
            "fog",
            "brit",
            "contr",
            "elast",
            "pixel",
            "jpeg",
        ],
        strict=True,
    )
)
