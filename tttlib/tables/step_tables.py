"""What the steps of test-time training do before anything is reported: notebook 02's second half.

The claims made here answer the predictions on the choice of a step; they are told below a figure
and not kept with the statements of paper and report, because they are of other images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

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
            what = f"{name}, rate {row['lr']:.2g}: after - before"
            told.append(of_difference(claim, row, unit="images", measure=what, expected=expected))
    return told


def decidable(
    tried: pd.DataFrame, by: str | list[str], chosen: Mapping[Any, float], images: Mapping[Any, int]
) -> pd.DataFrame:
    """Return what so many images decide, if as many answers change as under the chosen steps.

    Parameters
    ----------
    tried
        Rows of `evaluate.choose_step` with the columns `by`, such as model, or task and mode.
    by
        The columns that name a choice.
    chosen
        The chosen learning rate by value of `by`.
    images
        The independent images of the run, by the same.

    Returns
    -------
    pandas.DataFrame
        Columns: `by`, answers changed (a share, at least `RARELY`), images for a margin of 1 point,
        images here, smallest effect they tell (a fraction).
    """
    columns = ["answers changed", "images for a margin of 1 point", "images here"]
    records = {}
    for name, lr in chosen.items():
        row = tried[tried["lr"] == lr].set_index(by).loc[[name]].iloc[0]
        flips = max((row["mended"] + row["broken"]) / row["n"], RARELY)
        needed = statistics.images_needed(0.01, flips).images
        records[name] = dict(zip(columns, (flips, needed, images[name]), strict=True))
        smallest = statistics.smallest_margin(images[name], flips)
        records[name]["smallest effect they tell"] = smallest
    table = pd.DataFrame.from_dict(records, orient="index")
    return table.rename_axis(by).reset_index()


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
    return results.paired_difference(
        ends, by, method_column="when", baseline="first", value="loss", clusters=clusters
    )


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
