"""What the steps of test-time training do before anything is reported: notebook 02's second half.

The claims made here answer the predictions on the choice of a step; they are told below a figure
and not kept with the statements of paper and report, because they are of other images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from tttlib import results, statistics
from tttlib.tables.claims import Claim, of_difference

RARELY = 0.01
"""At least this share of the answers counts as changed, however few were."""


def of_steps(tried: pd.DataFrame, chosen: Mapping[str, float]) -> list[Claim]:
    """Return what the smallest, the chosen and the largest step of each network did.

    Parameters
    ----------
    tried
        Rows of `evaluate.choose_step` with a column model.
    chosen
        The chosen learning rate of each model.
    """
    told = []
    for name, lr in chosen.items():
        steps = tried[tried["model"] == name].sort_values("lr")
        picked = steps[steps["lr"] == lr].iloc[0]
        for row, claim, expected in (
            (steps.iloc[0], "the smallest step makes no difference", "zero"),
            (picked, "the chosen step mends more answers than it breaks", "above"),
            (steps.iloc[-1], "the largest step breaks more answers than it mends", "below"),
        ):
            about = {"unit": "images", "measure": f"{name}, rate {row['lr']:.2g}: after - before"}
            told.append(of_difference(claim, row, expected=expected, **about))
    return told


def decidable(
    tried: pd.DataFrame, chosen: Mapping[str, float], images: Mapping[str, int]
) -> pd.DataFrame:
    """Return what so many `images` of each model decide, if as many answers change as in tuning.

    Columns: model, answers changed (a share), images for a margin of 1 point, images here, smallest
    effect they tell (a fraction). The other parameters are those of `of_steps`.
    """
    records = []
    for name, lr in chosen.items():
        row = tried[(tried["model"] == name) & (tried["lr"] == lr)].iloc[0]
        flips = max((row["mended"] + row["broken"]) / row["n"], RARELY)
        records.append(
            {
                "model": name,
                "answers changed": flips,
                "images for a margin of 1 point": statistics.images_needed(0.01, flips).images,
                "images here": images[name],
                "smallest effect they tell": statistics.smallest_margin(images[name], flips),
            }
        )
    return pd.DataFrame(records)


def loss_change(
    rows: pd.DataFrame, by: Sequence[str], *, clusters: Sequence[str] = ()
) -> pd.DataFrame:
    """Return the self-supervised loss before the last update minus that before the first.

    `rows` are those of `evaluate.standard`; columns as `results.paired_difference` says.
    """
    known = rows[rows["loss"].notna()]
    last = known.groupby("model")["step"].transform("max")
    ends = known[(known["step"] == 0) | (known["step"] == last)]
    ends = ends.assign(when=np.where(ends["step"] == 0, "first", "last"))
    how = {"method_column": "when", "baseline": "first", "value": "loss"}
    return results.paired_difference(ends, by, **how, clusters=clusters)


def of_losses(rows: pd.DataFrame, *, clusters: Sequence[str] = ()) -> list[Claim]:
    """Return whether the self-supervised loss of each model falls, as a share of the first loss."""
    change = loss_change(rows, ["model"], clusters=clusters)
    first = rows[rows["step"] == 0].groupby("model")["loss"].mean()
    numbers = ["difference", "low", "high"]
    change[numbers] = change[numbers].div(change["model"].map(first), axis=0)
    return [
        of_difference("the self-supervised loss falls", row, unit="images", expected="below",
                      measure=f"{row['model']}: last minus first, in % of the first")
        for _, row in change.iterrows()
    ]  # fmt: skip


def of_cosines(cosines: pd.DataFrame) -> list[Claim]:
    """Return whether the gradients of each model agree, from `results.summarise` of their cosines.

    A cosine of less than a tenth, either way, counts as none.
    """
    return [
        Claim("the two gradients point the same way", row["mean"], row["low"], row["high"],
              int(row["n"]), "images under corruptions", "above", margin=0.1,
              measure=f"{row['model']}: cosine")
        for _, row in cosines.iterrows()
    ]  # fmt: skip
