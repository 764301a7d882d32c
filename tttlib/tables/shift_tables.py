"""Tables and verdicts about distribution shift, from the rows of `evaluate.shift`."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from tttlib import results
from tttlib.evaluate.cls_latents import LAST
from tttlib.statistics.variance import DIFFERENCE
from tttlib.tables.claims import Claim

READ = "read by a line, above chance"
SILHOUETTE = "silhouette"
DOMINATES = "shift dominates class"
SEPARATE = "classes separate along the steps"


def reading(rows: pd.DataFrame, *, clusters: Sequence[str] = ()) -> pd.DataFrame:
    """How far corruption and class organise the latents of `evaluate.latent_map`, with intervals.

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
    ordered = {(m, f): values[m, f] for m in (READ, SILHOUETTE) for f in factors}
    long = [rows.assign(measure=m, factor=f, value=v) for (m, f), v in ordered.items()]
    return results.summarise(
        pd.concat(long, ignore_index=True), ["measure", "factor"], value="value", clusters=clusters
    )


def states(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of `evaluate.latent_variance_adapted` of several methods under readable names.

    rows  with a column `method`
    Adds `shown`: "before" (kept once), "<method>" or, where it has several states, "<method>, as
    met" and "<method>, end of stream".
    """
    several = rows.groupby("method")["state"].transform("nunique") > 2
    shown = rows["method"].where(
        ~several,
        rows["method"] + ", " + rows["state"].replace({"after": "as met"}),
    )
    rows = rows.assign(shown=shown.where(rows["state"] != "before", "before"))
    return rows.drop_duplicates(["shown", "kind", "factor"]).reset_index(drop=True)


def verdicts(
    variance: pd.DataFrame,
    read: pd.DataFrame,
    silhouettes: pd.DataFrame,
    adapted: pd.DataFrame,
) -> list[Claim]:
    """What the numbers say of the two claims; each number decides for itself.

    variance     of `evaluate.latent_variance`: its last layer counts, at the strongest and at the
                 weakest severity
    read         of `reading`
    silhouettes  change of the silhouette by class against step 0, of `results.paired_difference`;
                 its last row counts
    adapted      of `states`: the changes of the share of the class
    """
    differences = variance[(variance["layer"] == LAST) & (variance["factor"] == DIFFERENCE)]
    found = []
    for severity in sorted({variance["severity"].max(), variance["severity"].min()}, reverse=True):
        row = differences[differences["severity"] == severity].iloc[0]
        measure = f"share of variance, {DIFFERENCE}, severity {severity:g}"
        found.append(_claim(DOMINATES, row, "share", int(row["n"]), measure))
    images = found[0].n
    for _, row in read[read["factor"] == DIFFERENCE].iterrows():
        found.append(_claim(DOMINATES, row, "mean", images, f"{row['measure']}, {DIFFERENCE}"))
    row = silhouettes.iloc[-1]
    measure = f"silhouette by class, {row['step']:.0f} steps minus 0"
    found.append(_claim(SEPARATE, row, "difference", int(row["n"]), measure))
    changes = adapted[(adapted["kind"] == "change") & (adapted["factor"] == "class")]
    for _, row in changes.iterrows():
        measure = f"share of variance of the class, {row['shown']} minus before"
        found.append(_claim(SEPARATE, row, "share", int(row["n"]), measure))
    return found


def explained(rows: pd.DataFrame) -> list[float]:
    """The shares of variance of the two components of a map or of paths."""
    return rows[["explained1", "explained2"]].iloc[0].tolist()


def _claim(claim: str, row: pd.Series, estimate: str, n: int, measure: str) -> Claim:
    """Above zero supports it."""
    return Claim(
        claim=claim, estimate=float(row[estimate]), low=float(row["low"]), high=float(row["high"]),
        n=n, unit="images", expected="above", measure=measure,
    )  # fmt: skip
