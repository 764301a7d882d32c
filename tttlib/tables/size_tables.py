"""Tables of notebook 04: accuracy before and after TTT against the size and place of the object.

They take `evaluate.before_after` joined with `evaluate.object_geometry`, images without a box left
out by the caller (and counted there). Accuracies are fractions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch

from tttlib import boxes, results, statistics
from tttlib.tables.claims import Claim

OUTCOMES = ("before", "after", "gain")
SETTING = ("domain", "severity")
_RELATION = ["r", "low", "high", "p", "n", "effective_n"]


def overall(pairs: pd.DataFrame, *, clusters: Sequence[str] = ()) -> pd.DataFrame:
    """Per corruption and severity: n, before, after, gain with its interval (low, high)."""
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
    """One row per class: area ratios of its objects, and accuracy before, after and gained.

    ratios    of `evaluate.object_ratios`
    outcomes  those of `OUTCOMES` that the pairs have
    Columns: label, class, images, n (image under a corruption), objects, area_mean, area_variance,
    and for each outcome its mean, <name>_low and <name>_high (bootstrap).
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
    label = table["label"].to_numpy()
    table["objects"] = areas.n.numpy()[label]
    table["area_mean"] = areas.mean.numpy()[label]
    table["area_variance"] = areas.variance.numpy()[label]
    for name in outcomes:
        found = results.summarise(pairs, "label", value=name, clusters=clusters)
        found = found.drop(columns="n").set_index("label").loc[label]
        table[[name, f"{name}_low", f"{name}_high"]] = found[["mean", "low", "high"]].to_numpy()
    return table


def class_relations(
    classes: pd.DataFrame, *, outcomes: Sequence[str] = OUTCOMES, seed: int = 0
) -> pd.DataFrame:
    """The report's analysis: mean and variance of the area ratio against class accuracies.

    classes  of `per_class`
    One row per quantity, outcome and method (Pearson, Spearman): r, low, high, p, n (classes), and
    p corrected over all of one method. Classes without a variance are left out of its rows.
    """
    records = []
    for quantity in ("area_mean", "area_variance"):
        known = classes[np.isfinite(classes[quantity])]
        for outcome in outcomes:
            for method in ("pearson", "spearman"):
                found = statistics.correlate(
                    known[quantity], known[outcome], method=method, seed=seed
                )
                names = {"quantity": quantity, "outcome": outcome, "method": method}
                records.append(names | found._asdict())
    table = pd.DataFrame(records, columns=["quantity", "outcome", "method", *_RELATION])
    return statistics.corrected(table, by="method")


def image_relations(
    pairs: pd.DataFrame,
    quantities: Sequence[str],
    *,
    clusters: Sequence[str] = (),
    outcomes: Sequence[str] = OUTCOMES,
    seed: int = 0,
) -> pd.DataFrame:
    """Per image: each quantity against right before, right after and gain, as `class_relations`.

    The outcomes are taken as departures from the mean of their corruption and severity, so that
    easy and hard corruptions do not blur the relation. n counts images under a corruption.
    """
    groups = pairs.groupby([c for c in SETTING if c in pairs], sort=False)
    factors = [pairs[name].to_numpy() for name in clusters or ("id",)]
    records = []
    for quantity in quantities:
        for outcome in outcomes:
            value = pairs[outcome].astype("float64")
            off = value - groups[outcome].transform("mean").astype("float64")
            for method in ("pearson", "spearman"):
                found = statistics.correlate(
                    pairs[quantity], off, factors, method=method, seed=seed, resamples=1000
                )
                names = {"quantity": quantity, "outcome": outcome, "method": method}
                records.append(names | found._asdict())
    table = pd.DataFrame(records, columns=["quantity", "outcome", "method", *_RELATION])
    return statistics.corrected(table, by="method")


def by_bin(
    pairs: pd.DataFrame,
    column: str = "area",
    *,
    bins: int = 10,
    clusters: Sequence[str] = (),
    outcomes: Sequence[str] = OUTCOMES,
) -> pd.DataFrame:
    """Accuracy in bins of `column` that hold equally many images (deciles for 10).

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
    for name in outcomes:
        found = results.summarise(placed, "bin", value=name, clusters=clusters)
        table[[name, f"{name}_low", f"{name}_high"]] = found[["mean", "low", "high"]].to_numpy()
    return table


def regressions(
    pairs: pd.DataFrame,
    regressors: Sequence[str],
    *,
    clusters: Sequence[str] = (),
    outcomes: Sequence[str] = ("before", "after"),
    seed: int = 0,
    resamples: int = 500,
) -> pd.DataFrame:
    """`statistics.logistic` of right before and of right after TTT, stacked (column outcome).

    regressors  numeric columns; the corruption enters as a category besides
    p-values are corrected over the regressors of all outcomes, the corruptions' own left out.
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
    """What makes rows of one class dependent: the coarsest cluster that lies within classes.

    A photograph that backs several classes is none; a digit instance is; else it is the image.
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
    """What this many classes and images would have shown in 4 of 5 repetitions (two-sided, 5 %).

    relations  of `image_relations`: their effective number of images counts
    bins       of `by_bin`
    n_classes  of the correlation over classes; None: those of `classes`
    Columns: question, n, smallest effect, and what it is measured in.
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


def size_claims(
    relations: pd.DataFrame, single: pd.DataFrame, by_class: pd.DataFrame, *, margin: float
) -> list[Claim]:
    """The report's claims on size and on classes, with the numbers that decide them.

    relations  of `class_relations` (where there is a column sample, its "all"), single of
               `image_relations`, by_class of `statistics.class_intervals`
    margin     |r| below it counts as no relation
    """
    if "sample" in relations:
        relations = relations[relations["sample"] == "all"]
    asked = [
        ("class means", "classes", relations, "area_mean", "before"),
        ("single images", "images under a corruption", single, "area", "before"),
        ("gain of single images", "images under a corruption", single, "area", "gain"),
    ]
    found = []
    for what, unit, table, quantity, outcome in asked:
        row = table[(table["method"] == "pearson") & (table["quantity"] == quantity)]
        row = row[row["outcome"] == outcome]
        r, low, high, n = row[["r", "low", "high", "n"]].iloc[0]
        words = f"size does not explain accuracy: {what}"
        measure = f"Pearson r of {quantity.replace('_', ' ')} and {outcome}"
        found.append(Claim(words, r, low, high, int(n), unit, "zero", margin, measure=measure))
    middle, low, high = statistics.lowest(by_class)
    words, measure = "some classes do not gain (are hurt)", "smallest class gain, simultaneous"
    n = len(by_class)
    return [*found, Claim(words, middle, low, high, n, "classes", "below", measure=measure)]
