"""Two self-supervised tasks, AdamW, clean images, masks: what notebook 06 says below its figures.

The statements of `of_gains`, `of_stopping`, `of_clean_images` and `of_masks` are kept at its end.
Those of the other functions answer a prediction on the way and are told below a figure alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from tttlib import results, statistics
from tttlib.streams import CLEAN
from tttlib.tables.accuracy_tables import ALL
from tttlib.tables.claims import Claim, of_difference
from tttlib.tables.stream_tables import PAIR, on_pairs

SCALED, FIXED = "scaled with the masks", "fixed"
"""Rules of the learning rate of `of_masks`."""


def of_gains(gained: pd.DataFrame) -> list[Claim]:
    """Return whether each method gains, from `accuracy_tables.gains_over_all` by method."""
    return [
        of_difference(
            f"{row['method']}, gains under corruption", row, unit="images", measure="after - before"
        )
        for _, row in gained[gained["domain"] == ALL].iterrows()
    ]


def of_modes(rows: pd.DataFrame, *, clusters: Sequence[str] = ()) -> list[Claim]:
    """Return whether online TTT gains more than standard TTT does, for each task.

    `rows` have columns task, mode ("standard", "online") and step; the images of standard TTT must
    be among those of online TTT, and count alone.
    """
    claims = []
    for task, of_task in rows.groupby("task", sort=False):
        modes = {name: part for name, part in of_task.groupby("mode")}
        standard, online = (
            modes[name][modes[name]["step"] == modes[name]["step"].max()]
            for name in ("standard", "online")
        )
        both = pd.concat([standard, on_pairs(online, standard)])
        row = results.paired_difference(
            both, method_column="mode", baseline="standard", clusters=clusters
        ).iloc[0]
        words = f"{task}: online TTT gains more than standard TTT"
        claims.append(of_difference(words, row, unit="images", measure="online - standard"))
    return claims


def of_rates(rows: pd.DataFrame, *, clusters: Sequence[str] = ()) -> list[Claim]:
    """Return whether more steps cost more at the largest learning rate than at the smallest.

    `rows` of `evaluate.standard` at several `lr`, the mean over other settings of the same image
    counts. Nothing where there is one rate, or one number of steps.
    """
    rows = rows[rows["step"] > 0]
    steps, rates = (sorted(rows[name].unique()) for name in ("step", "lr"))
    if len(steps) < 2 or len(rates) < 2:
        return []
    ends = rows[rows["step"].isin([steps[0], steps[-1]]) & rows["lr"].isin([rates[0], rates[-1]])]
    keys = ["lr", *dict.fromkeys(["domain", "id", *clusters])]
    right = ends.groupby([*keys, "step"], sort=False)["correct"].mean().unstack("step")
    change = (right[steps[-1]] - right[steps[0]]).rename("change").reset_index()
    row = results.paired_difference(
        change, method_column="lr", baseline=rates[0], value="change", clusters=clusters
    ).iloc[0]
    words = f"from step {steps[0]} to step {steps[-1]}, the larger learning rate loses more"
    measure = f"change at {rates[-1]:g} - change at {rates[0]:g}"
    return [of_difference(words, row, unit="images", expected="below", measure=measure)]


def of_choice(chosen: pd.Series, reported: pd.Series) -> Claim:
    """Return whether a gain is smaller where it is reported than where its setting was chosen.

    Both are rows of `results.paired_difference`, of different images.
    """
    means = [
        statistics.Interval(row["difference"], row["low"], row["high"], int(row["n"]))
        for row in (chosen, reported)
    ]
    smaller = statistics.difference_of_means(*means)
    words = "the gain is smaller on the reported images than on those that chose the setting"
    return Claim(
        words, smaller.mean, smaller.low, smaller.high, smaller.n, "images of both", "below",
        measure="reported - chosen",
    )  # fmt: skip


def of_stopping(
    rows: pd.DataFrame, stop: int, early: int, *, clusters: Sequence[str] = ()
) -> list[Claim]:
    """Return whether AdamW gains until step `stop`, and whether step `early` beats the last one."""
    last = int(rows["step"].max())
    asked = [
        ("AdamW gains with settings chosen on other corruptions", stop, 0, "before"),
        ("stopping AdamW early is better", early, last, f"at step {last}"),
    ]
    claims = []
    for words, step, baseline, reference in asked:
        row = results.paired_difference(
            rows[rows["step"].isin([step, baseline])],
            method_column="step",
            baseline=baseline,
            clusters=clusters,
        ).iloc[0]
        measure = f"at step {step} - {reference}"
        claims.append(of_difference(words, row, unit="images", measure=measure))
    return claims


def by_share(
    rows: pd.DataFrame, heldout: pd.DataFrame, *, clusters: Sequence[str] = ()
) -> pd.DataFrame:
    """Return what online TTT changes, by the share of clean images in the stream.

    Parameters
    ----------
    rows
        Rows of `stream_tables.arrivals` of the methods "online" and "source", with columns task and
        share.
    heldout
        Rows of `stream_tables.heldout_change` with columns task, share and images.

    Returns
    -------
    DataFrame
        Columns task, share, images ("clean", "corrupted", or as in `heldout`), the numbers of
        `results.paired_difference`, and in words stream ("50 % clean") and what.
    """
    clean = (rows["domain"] == CLEAN).map({True: "clean", False: "corrupted"})
    in_stream = results.paired_difference(
        rows.assign(images=clean),
        ["task", "share", "images"],
        method_column="method",
        baseline="source",
        match=list(PAIR),
        clusters=clusters,
    ).drop(columns="method")
    table = pd.concat([in_stream, heldout], ignore_index=True)
    table["stream"] = (100 * table["share"]).map("{:.0f} % clean".format)
    table["what"] = table["task"] + ": " + table["images"]
    return table.sort_values(["share", "task", "images"], ignore_index=True)


def of_clean_images(mixture: pd.DataFrame) -> list[Claim]:
    """Return whether streams leave clean images as they are, within two points.

    `mixture` are rows of `results.paired_difference` with columns task, stream ("50 % clean") and
    images ("clean", "clean, held out"; others are left out).
    """
    claims = []
    for _, row in mixture[mixture["images"] != "corrupted"].iterrows():
        what = "held-out clean images" if "held" in row["images"] else "clean arrivals"
        words = f"{row['task']}: a stream with {row['stream']} images leaves {what} as they are"
        how: dict[str, Any] = {"unit": "images", "expected": "zero", "margin": 0.02}
        claims.append(of_difference(words, row, measure="online - unadapted", **how))
    return claims


def of_masks(rows: pd.DataFrame, compute: int, *, clusters: Sequence[str] = ()) -> list[Claim]:
    """Return whether most masks beat most steps, and whether with a fixed rate they gain less.

    `rows` of `evaluate.standard` have columns masks, and rule (`SCALED`, `FIXED`); masks times
    steps are `compute` in all of them.
    """
    fewest, most = rows["masks"].min(), rows["masks"].max()
    asked = {
        SCALED: ("many masks beat many steps at equal compute", "above"),
        FIXED: ("with a fixed learning rate, many masks gain less than many steps", "below"),
    }
    claims = []
    for rule, (words, expected) in asked.items():
        ends = rows[(rows["step"] > 0) & (rows["rule"] == rule)]
        row = results.paired_difference(
            ends[ends["masks"].isin([fewest, most])],
            method_column="masks",
            baseline=fewest,
            clusters=clusters,
        ).iloc[0]
        measure = f"{most} masks - {fewest}, masks x steps = {compute}"
        how: dict[str, Any] = {"unit": "images", "expected": expected, "measure": measure}
        claims.append(of_difference(words, row, **how))
    return claims
