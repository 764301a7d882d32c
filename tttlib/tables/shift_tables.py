"""Tables and verdicts about distribution shift, from the rows of `evaluate.latent_shift`."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from tttlib import results
from tttlib.evaluate.cls_latents import LAST
from tttlib.statistics.variance_components import DIFFERENCE
from tttlib.tables.claims import Claim

READ = "read by a line, above chance"
SILHOUETTE = "silhouette"
DOMINATES = "shift dominates class"
SEPARATE = "classes separate along the steps"
RAISES = "TTT raises the corruption's share of the variance"


def reading(rows: pd.DataFrame, *, clusters: Sequence[str] = ()) -> pd.DataFrame:
    """Return how far corruption and class organise the latents of `evaluate.latent_map`.

    Columns measure, factor ("corruption", "class", "corruption - class"), n (points), mean, low,
    high. Accuracies are (accuracy - chance) / (1 - chance): 0 is guessing, 1 is always right. The
    intervals are over images (and `clusters`); the classifiers are taken as they are.
    """
    values = {}
    for factor in ("corruption", "class"):
        chance = rows[f"chance_{factor}"]
        values[READ, factor] = (rows[f"read_{factor}"].astype("float64") - chance) / (1 - chance)
        values[SILHOUETTE, factor] = rows[f"silhouette_{factor}"]
    for measure in (READ, SILHOUETTE):
        values[measure, DIFFERENCE] = values[measure, "corruption"] - values[measure, "class"]
    factors = ("corruption", "class", DIFFERENCE)
    long = [
        rows.assign(measure=measure, factor=factor, value=values[measure, factor])
        for measure in (READ, SILHOUETTE)
        for factor in factors
    ]
    return results.summarise(
        pd.concat(long, ignore_index=True), ["measure", "factor"], value="value", clusters=clusters
    )


def states(rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows of `evaluate.latent_variance_adapted` with a column of readable names.

    `rows` have a column `method`. The new column `shown` is "before" (kept once), "<method>" or,
    where it has several states, "<method>, as met" and "<method>, end of stream".
    """
    several = rows.groupby("method")["state"].transform("nunique") > 2
    shown = rows["method"].where(
        ~several,
        rows["method"] + ", " + rows["state"].replace({"after": "as met"}),
    )
    rows = rows.assign(shown=shown.where(rows["state"] != "before", "before"))
    return rows.drop_duplicates(["shown", "kind", "factor"]).reset_index(drop=True)


def left_out(without: pd.DataFrame) -> pd.DataFrame:
    """Return the shares without each corruption in turn, the smallest difference first.

    `without` are rows of `evaluate.latent_variance_without`. Columns: without, corruption, class,
    corruption - class, and the interval of that, low and high.
    """
    wide = without.pivot_table("share", "without", "factor", sort=False)[["corruption", "class"]]
    rest = without[without["factor"] == DIFFERENCE].set_index("without")
    wide = wide.join(rest[["share", "low", "high"]].rename(columns={"share": DIFFERENCE}))
    return wide.sort_values(DIFFERENCE).reset_index()


def dominance(
    variance: pd.DataFrame, read: pd.DataFrame, without: pd.DataFrame | None = None
) -> list[Claim]:
    """Return whether the corruption organises the latents more than the class, by every measure.

    Parameters
    ----------
    variance
        Rows of `evaluate.latent_variance`: the last layer counts, at the strongest and at the
        weakest severity.
    read
        The table of `reading`.
    without
        Rows of `evaluate.latent_variance_without`, or None: the corruption counts without which the
        difference is smallest.
    """
    differences = variance[(variance["layer"] == LAST) & (variance["factor"] == DIFFERENCE)]
    decided = []
    for severity in sorted({variance["severity"].max(), variance["severity"].min()}, reverse=True):
        row = differences[differences["severity"] == severity].iloc[0]
        measure = f"share of variance, {DIFFERENCE}, severity {severity:g}"
        decided.append(_claim(DOMINATES, row, "share", int(row["n"]), measure))
    images = decided[0].n
    if without is not None:
        rest = without[without["factor"] == DIFFERENCE]
        row = rest.iloc[int(rest["share"].argmin())]
        measure = f"share of variance, {DIFFERENCE}, without {row['without']}"
        decided.append(_claim(DOMINATES, row, "share", int(row["n"]), measure))
    for _, row in read[read["factor"] == DIFFERENCE].iterrows():
        decided.append(_claim(DOMINATES, row, "mean", images, f"{row['measure']}, {DIFFERENCE}"))
    return decided


def separation(silhouettes: pd.DataFrame) -> Claim:
    """Return whether the silhouette by class rises until the last step.

    `silhouettes` is its change against step 0, of `results.paired_difference`.
    """
    row = silhouettes.iloc[-1]
    measure = f"silhouette by class, {row['step']:.0f} steps minus 0"
    return _claim(SEPARATE, row, "difference", int(row["n"]), measure)


def changes(adapted: pd.DataFrame) -> list[Claim]:
    """Return whether TTT raises the shares of class and corruption, from the rows of `states`."""
    decided = []
    for claim, factor in ((SEPARATE, "class"), (RAISES, "corruption")):
        rows = adapted[(adapted["kind"] == "change") & (adapted["factor"] == factor)]
        for _, row in rows.iterrows():
            measure = f"share of variance of the {factor}, {row['shown']} minus before"
            decided.append(_claim(claim, row, "share", int(row["n"]), measure))
    return decided


def of_reading(read: pd.DataFrame, images: int) -> list[Claim]:
    """Return whether a line reads the corruption, the class, and the first better than the second.

    `read` is the table of `reading`, over so many `images`.
    """
    rows = read[read["measure"] == READ].set_index("factor")
    told = [
        _claim(f"the {factor} is read above chance", rows.loc[factor], "mean", images, READ)
        for factor in ("corruption", "class")
    ]
    better, measure = "the corruption is read better than the class", f"{READ}, {DIFFERENCE}"
    return [*told, _claim(better, rows.loc[DIFFERENCE], "mean", images, measure)]


def along(variance: pd.DataFrame) -> list[Claim]:
    """Return whether shares rise with severity and depth, from `evaluate.latent_variance`.

    The difference of two shares gets the sum of their half widths, which is enough however the two
    depend on each other. Layers are in order; what has one severity or one layer is left out.
    """
    weak, strong = variance["severity"].min(), variance["severity"].max()
    last, severe = variance["layer"] == LAST, variance["severity"] == strong
    first_layer = variance["layer"].iloc[0]
    first = variance["layer"] == first_layer
    ends = {
        ("the corruption dominates more at higher severity", DIFFERENCE): (
            f"{DIFFERENCE}, severity {strong:g} - {weak:g}",
            variance[last & severe],
            variance[last & (variance["severity"] == weak)],
        ),
        ("the share of the class rises with depth", "class"): (
            f"class, {LAST} - {first_layer}, severity {strong:g}",
            variance[last & severe],
            variance[first & severe],
        ),
    }
    told = []
    for (claim, factor), (measure, high, low) in ends.items():
        end, start = (rows.set_index("factor").loc[factor] for rows in (high, low))
        if end.equals(start):
            continue
        row = pd.Series({"share": end["share"] - start["share"],
                         "low": end["low"] - start["high"],
                         "high": end["high"] - start["low"]})  # fmt: skip
        told.append(_claim(claim, row, "share", int(end["n"]), f"share of variance, {measure}"))
    return told


def explained(rows: pd.DataFrame) -> list[float]:
    """Return the shares of variance of the two components of a map or of paths."""
    return rows[["explained1", "explained2"]].iloc[0].tolist()


def _claim(claim: str, row: pd.Series, estimate: str, n: int, measure: str) -> Claim:
    """Return a claim that an interval above zero supports."""
    middle, low, high = (float(row[name]) for name in (estimate, "low", "high"))
    return Claim(claim, middle, low, high, n, "images", "above", measure=measure)
