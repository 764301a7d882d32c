"""Predictions before and after test-time training, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from tttlib import streams
from tttlib.data import ImageSet

MATCH = ("domain", "severity", "id")
OUTCOMES = {
    "kept": (True, True),
    "mended": (False, True),
    "broken": (True, False),
    "wrong": (False, False),
}
"""What updates can do to an answer -> whether it is right before and after them."""


def before_after(rows: pd.DataFrame, *, step: int = -1) -> pd.DataFrame:
    """Pair the predictions before and after the updates.

    Parameters
    ----------
    rows
        Rows of `test_time_training`.
    step
        The number of updates that counts as after; -1 means the largest.

    Returns
    -------
    DataFrame
        One row per image, domain and severity: the columns at step 0 that describe the image,
        before and after (bool), gain (-1, 0 or 1), answer_before and answer_after (predicted
        labels).

    Raises
    ------
    ValueError
        If step 0 or `step` is missing for some image, or one occurs twice.
    """
    match = [name for name in MATCH if name in rows]
    # A clean image has no severity, so runs at several severities bring its rows several times.
    rows = rows[(rows["domain"] != streams.CLEAN) | ~rows.duplicated([*match, "step"])]
    last = int(rows["step"].max()) if step == -1 else step
    first, then = (rows[rows["step"] == s].set_index(match) for s in (0, last))
    if not (first.index.is_unique and then.index.is_unique):
        raise ValueError(f"an image occurs twice under one {', '.join(match)}; split by setting")
    if last == 0 or len(first) != len(then) or not first.index.isin(then.index).all():
        raise ValueError(f"rows need every image at step 0 and at step {last}; add evaluate_at")
    then = then.loc[first.index]
    pairs = first.drop(columns=["step", "prediction", "correct", "loss"], errors="ignore").assign(
        before=first["correct"],
        after=then["correct"],
        gain=then["correct"].astype(int) - first["correct"].astype(int),
        answer_before=first["prediction"],
        answer_after=then["prediction"],
    )
    return pairs.reset_index()


def examples(
    dataset: ImageSet,
    pairs: pd.DataFrame,
    *,
    n: int = 24,
    labels: Sequence[int] = (),
    seed: int = 0,
) -> dict[str, Any]:
    """Return images whose answer TTT changed from right to wrong or back, as the network saw them.

    Half of them are hurt and half are helped, if there are as many.

    Parameters
    ----------
    dataset
        The clean images.
    pairs
        The result of `before_after`.
    n
        The largest number of images.
    labels
        The classes to take them from first, in this order; then come the others.
    seed
        The seed of the corruptions, as given to `test_time_training`.

    Returns
    -------
    dict
        images [M,3,H,W] in [0,1], boxes [M,4] or None, titles [M] and kinds [M] ("right to wrong"
        or "wrong to right").
    """
    rank = {label: i for i, label in enumerate(labels)}
    order = pairs["label"].map(rank).fillna(len(rank))
    ordered = pairs.assign(_rank=order).sort_values("_rank", kind="stable")
    hurt, helped = ordered[ordered["gain"] < 0], ordered[ordered["gain"] > 0]
    chosen = pd.concat([hurt.head(max(n // 2, n - len(helped))), helped]).head(n)
    changed = ["right to wrong" if g < 0 else "wrong to right" for g in chosen["gain"]]
    return {**_pictures(dataset, chosen, seed), "kinds": changed}


def objects_of(
    dataset: ImageSet,
    pairs: pd.DataFrame,
    *,
    size: tuple[float, float] = (0, 100),
    outcome: str = "mended",
    n: int = 12,
    seed: int = 0,
) -> dict[str, Any]:
    """Return objects of a range of sizes that TTT kept right, mended, broke, or left wrong.

    Of more than `n` those are taken that lie evenly over the sizes, the smallest first.

    Parameters
    ----------
    dataset, seed
        As for `examples`.
    pairs
        The result of `before_after`, with the column `area` of the objects.
    size
        The lowest and highest percentile of the area, among the rows of `pairs`.
    outcome
        One of `OUTCOMES`.
    n
        The largest number of images.

    Returns
    -------
    dict
        For `plots.object_examples`: images and boxes as of `examples`, titles that also tell the
        true class and the area, and heading.

    Raises
    ------
    ValueError
        For an unknown outcome.
    """
    if outcome not in OUTCOMES:
        raise ValueError(f"unknown outcome {outcome!r}; known are {', '.join(OUTCOMES)}")
    low, high = pairs["area"].quantile([share / 100 for share in size])
    before, after = OUTCOMES[outcome]
    inside = pairs[pairs["area"].between(low, high)]
    found = inside[(inside["before"] == before) & (inside["after"] == after)].sort_values("area")
    shown = min(n, len(found))
    chosen = found.iloc[[round(k) for k in np.linspace(0, len(found) - 1, shown)]]
    pictures = _pictures(dataset, chosen, seed)
    facts = zip(pictures["titles"], chosen["label"], chosen["area"], strict=True)
    pictures["titles"] = [
        f"{title}\n{dataset.classes[label]}, {100 * area:.0f} %" for title, label, area in facts
    ]
    told = f"{outcome}: {len(found)} of {len(inside)} answers to objects of {100 * low:.0f} to"
    return {**pictures, "heading": f"{told} {100 * high:.0f} % of the image, {shown} shown"}


def _pictures(dataset: ImageSet, chosen: pd.DataFrame, seed: int) -> dict[str, Any]:
    """Return images [M,3,H,W] as the network saw them, boxes, and titles with both answers."""
    position = pd.Series(range(len(dataset)), dataset.ids.tolist())
    places = position.loc[chosen["id"]].tolist()
    side, names = dataset.image_size, dataset.classes
    images = torch.empty(len(chosen), 3, side, side)
    titles = []
    columns = chosen[["answer_before", "answer_after", "domain", "severity"]]
    changes = zip(places, columns.itertuples(index=False, name=None), strict=True)
    for i, (place, (before, after, domain, severity)) in enumerate(changes):
        images[i] = streams.corrupted(dataset, [place], domain, severity, seed=seed)[0] / 255
        shift = f"{domain.replace('_', ' ')} {severity:g}"
        titles.append(f"{names[before]} → {names[after]}\n{shift}")
    return {
        "images": images,
        "boxes": None if dataset.boxes is None else dataset.boxes[places],
        "titles": titles,
    }
