"""Accuracy before and after TTT against the size and place of the object (notebook 04).

`pairs` are rows of `evaluate.before_after` joined with `evaluate.object_geometry`; the caller
leaves out, and counts, images without a box. Accuracies are fractions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch

from tttlib import boxes, results, statistics
from tttlib.tables.claims import Claim

OUTCOMES = ("before", "after", "gain")
SETTING = ("domain", "severity")
_RELATION = ["r", "low", "high", "p", "n", "effective_n"]


def overall(pairs: pd.DataFrame, *, clusters: Sequence[str] = ()) -> pd.DataFrame:
    """Return n, before, after and gain with its interval, per corruption and severity."""
    gained = results.summarise(pairs, list(SETTING), value="gain", clusters=clusters)
    means = pairs.groupby(list(SETTING), sort=False)[["before", "after"]].mean().reset_index()
    table = means.merge(gained.rename(columns={"mean": "gain"}), on=list(SETTING))
    return table[[*SETTING, "n", *OUTCOMES, "low", "high"]]


def per_class(
    pairs: pd.DataFrame,
    ratios: pd.DataFrame,
    *,
    clusters: Sequence[str] = (),
    outcomes: Sequence[str] = OUTCOMES,
) -> pd.DataFrame:
    """Return one row per class: area ratios of its objects, and accuracy before, after and gained.

    `ratios` are those of `evaluate.object_ratios`, `outcomes` those of `OUTCOMES` that the pairs
    have. Columns: label, class, images, n (image under a corruption), objects, area_mean,
    area_variance, and for each outcome its mean, <name>_low and <name>_high (bootstrap).
    """
    n_classes = 1 + int(max(ratios["label"].max(), pairs["label"].max()))
    areas = boxes.by_class(
        torch.tensor(ratios["ratio"].to_numpy()),
        torch.tensor(ratios["label"].to_numpy()),
        n_classes,
    )
    table = pairs.groupby(["label", "class"], as_index=False).agg(
        images=("id", "nunique"), n=("id", "size")
    )
    label = table["label"]
    table["objects"] = areas.n.numpy()[label]
    table["area_mean"] = areas.mean.numpy()[label]
    table["area_variance"] = areas.variance.numpy()[label]
    return _with_means(table, pairs, "label", outcomes, clusters)


def _with_means(
    table: pd.DataFrame, rows: pd.DataFrame, by: str, names: Sequence[str], clusters: Sequence[str]
) -> pd.DataFrame:
    """Return the table, one row for each value of `by`, with mean, low and high of columns."""
    for name in names:
        means = results.summarise(rows, by, value=name, clusters=clusters)
        means = means.set_index(by).loc[table[by], ["mean", "low", "high"]]
        table[[name, f"{name}_low", f"{name}_high"]] = means.to_numpy()
    return table


def class_relations(
    classes: pd.DataFrame, *, outcomes: Sequence[str] = OUTCOMES, seed: int = 0
) -> pd.DataFrame:
    """Correlate mean and variance of the area ratio with class accuracies, as the report does.

    `classes` are those of `per_class`; classes without a variance are left out of its rows. One row
    per quantity, outcome and method (Pearson, Spearman): r, low, high, p, n (classes), and p
    corrected over all of one method.
    """
    parts = [
        _relations(known, quantity, outcome, known[outcome], seed=seed)
        for quantity in ("area_mean", "area_variance")
        for known in [classes[np.isfinite(classes[quantity])]]
        for outcome in outcomes
    ]
    return statistics.corrected(pd.concat(parts, ignore_index=True), by="method")


def image_relations(
    pairs: pd.DataFrame,
    quantities: Sequence[str],
    *,
    clusters: Sequence[str] = (),
    outcomes: Sequence[str] = OUTCOMES,
    seed: int = 0,
) -> pd.DataFrame:
    """Correlate each quantity with right before, right after and gain, over images.

    The outcomes are taken as departures from the mean of their corruption and severity, so that
    easy and hard corruptions do not blur the relation. Rows as in `class_relations`; n counts
    images under a corruption.
    """
    groups = pairs.groupby([c for c in SETTING if c in pairs], sort=False)
    options = {
        "clusters": [pairs[name].to_numpy() for name in clusters or ("id",)],
        "seed": seed,
        "resamples": 1000,
    }
    parts = []
    for quantity in quantities:
        for outcome in outcomes:
            mean = groups[outcome].transform("mean").astype("float64")
            departure = pairs[outcome].astype("float64") - mean
            parts.append(_relations(pairs, quantity, outcome, departure, **options))
    return statistics.corrected(pd.concat(parts, ignore_index=True), by="method")


def _relations(
    rows: pd.DataFrame, quantity: str, outcome: str, values: pd.Series, **options: Any
) -> pd.DataFrame:
    """Correlate the column `quantity` with `values`, by both methods: a row for each."""
    records = [
        {"quantity": quantity, "outcome": outcome, "method": method}
        | statistics.correlate(rows[quantity], values, method=method, **options)._asdict()
        for method in ("pearson", "spearman")
    ]
    return pd.DataFrame(records, columns=["quantity", "outcome", "method", *_RELATION])


def by_bin(
    pairs: pd.DataFrame,
    column: str = "area",
    *,
    bins: int = 10,
    clusters: Sequence[str] = (),
    outcomes: Sequence[str] = OUTCOMES,
) -> pd.DataFrame:
    """Return accuracy in bins of `column` that hold equally many images (deciles for 10).

    Fewer bins when there are fewer than two images for each, or when many share one value. Columns:
    bin (from 1), images, n, from, to, middle (mean of the column), and per outcome mean, low, high.
    """
    value_of = pairs.drop_duplicates("id").set_index("id")[column]
    bins = max(1, min(bins, len(value_of) // 2))
    bin_of = pd.qcut(value_of, bins, labels=False, duplicates="drop") + 1
    placed = pairs.assign(bin=pairs["id"].map(bin_of)).sort_values("bin", kind="stable")
    table = placed.groupby("bin", as_index=False).agg(
        images=("id", "nunique"),
        n=("id", "size"),
        **{"from": (column, "min"), "to": (column, "max"), "middle": (column, "mean")},
    )
    return _with_means(table, placed, "bin", outcomes, clusters)


def regressions(
    pairs: pd.DataFrame,
    regressors: Sequence[str],
    *,
    clusters: Sequence[str] = (),
    outcomes: Sequence[str] = ("before", "after"),
    seed: int = 0,
    resamples: int = 500,
) -> pd.DataFrame:
    """Fit `statistics.logistic` to right before and to right after TTT (column outcome).

    `regressors` are numeric columns; the corruption enters as a category besides. p-values are
    corrected over the regressors of all outcomes, the corruptions' own left out.
    """
    parts = [
        statistics.logistic(
            pairs,
            outcome,
            regressors,
            ["domain"],
            clusters=clusters or ("id",),
            resamples=resamples,
            seed=seed,
        ).assign(outcome=outcome)
        for outcome in outcomes
    ]
    table = pd.concat(parts, ignore_index=True)
    asked = table["term"].isin(regressors)
    return statistics.corrected(table.assign(p=table["p"].where(asked)))


def class_blocks(pairs: pd.DataFrame, clusters: Sequence[str] = ()) -> pd.Series:
    """Return what makes rows of one class dependent: the coarsest cluster within classes.

    A photograph that backs several classes is not one; a digit instance is; else the image is.
    """
    within = [c for c in clusters if (pairs.groupby(c)["label"].nunique() == 1).all()]
    return pairs[min(within, key=lambda c: pairs[c].nunique())] if within else pairs["id"]


def power_note(
    classes: pd.DataFrame,
    relations: pd.DataFrame,
    bins: pd.DataFrame,
    pairs: pd.DataFrame,
    *,
    n_classes: int | None = None,
) -> pd.DataFrame:
    """Return the smallest effects that 4 of 5 repetitions would have shown (two-sided, 5 %).

    Parameters
    ----------
    classes
        Those of `per_class`.
    relations
        Those of `image_relations`: their effective number of images counts.
    bins
        Those of `by_bin`.
    pairs
        The rows of all images.
    n_classes
        Number of classes of the correlation over classes; None: those of `classes`.

    Returns
    -------
    pandas.DataFrame
        Columns question, n, smallest effect, in (its unit).
    """
    n_classes = n_classes or len(classes)
    rows: list[tuple[str, float, float, str]] = [
        ("correlation over classes", n_classes, statistics.smallest_correlation(n_classes), "|r|")
    ]
    area = relations[(relations["quantity"] == "area") & (relations["method"] == "pearson")]
    for outcome, n in zip(area["outcome"], area["effective_n"], strict=True):
        smallest = statistics.smallest_correlation(n)
        rows.append((f"correlation of area over images: {outcome}", n, smallest, "|r|"))
    share, n = float(pairs["before"].mean()), float(bins["images"].mean())
    gap = statistics.smallest_difference(float(np.sqrt(2 * share * (1 - share))), n)
    rows.append(("accuracy of two bins of area", n, gap, "fraction"))
    spread = float(pairs.groupby("id")["gain"].mean().std())
    n = float(classes["images"].mean())
    rows.append(("gain of one class", n, statistics.smallest_difference(spread, n), "fraction"))
    return pd.DataFrame(rows, columns=["question", "n", "smallest effect", "in"])


def of_classes(relations: pd.DataFrame, margin: float) -> Claim:
    """Return whether the sizes of classes leave their accuracies unexplained.

    `relations` are those of `class_relations`; where there is a column sample, its "all" counts.
    |r| below `margin` is no relation.
    """
    if "sample" in relations:
        relations = relations[relations["sample"] == "all"]
    words, unit = "size does not explain accuracy: class means", "classes"
    return _unrelated(words, relations, "area_mean", "before", unit, margin)


def of_images(single: pd.DataFrame, margin: float) -> list[Claim]:
    """Return the same of single images (`image_relations`): of accuracy, and of the gain by TTT."""
    words, unit = "size does not explain accuracy:", "images under a corruption"
    return [
        _unrelated(f"{words} single images", single, "area", "before", unit, margin),
        _unrelated(f"{words} gain of single images", single, "area", "gain", unit, margin),
    ]


def of_direction(unrelated: Claim) -> Claim:
    """Return whether accuracy rises with size, on the number of a claim of no relation."""
    return replace(unrelated, claim="accuracy rises with the size of the object", expected="above")


def of_lowest(by_class: pd.DataFrame) -> Claim:
    """Return whether some class is hurt: the smallest gain of `statistics.class_intervals`."""
    words, measure = "some classes do not gain (are hurt)", "smallest class gain, simultaneous"
    smallest, n = statistics.lowest(by_class), len(by_class)
    return Claim(words, *smallest, n, "classes", "below", measure=measure)


def _unrelated(
    words: str, table: pd.DataFrame, quantity: str, outcome: str, unit: str, margin: float
) -> Claim:
    row = table[(table["method"] == "pearson") & (table["quantity"] == quantity)]
    r, low, high, n = row.loc[row["outcome"] == outcome, ["r", "low", "high", "n"]].iloc[0]
    measure = f"Pearson r of {quantity.replace('_', ' ')} and {outcome}"
    return Claim(words, r, low, high, int(n), unit, "zero", margin, measure=measure)
