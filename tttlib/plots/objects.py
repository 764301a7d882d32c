"""Accuracy against the size of the object, and classes that gain or lose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import StrMethodFormatter
from numpy.typing import ArrayLike
from torch import Tensor

from tttlib.plots.layout import ASIDE, dodged, intervals, legend_below, name_rows
from tttlib.plots.pictures import draw, without_frame
from tttlib.plots.style import PAGE, PALETTE, Look, pretty

COLORS = {"before": PALETTE[1], "after": PALETTE[0], "gain": PALETTE[2]}
_AXIS = {
    "before": "accuracy before TTT, %",
    "after": "accuracy after TTT, %",
    "gain": "gain, points",
    "area_mean": "mean area ratio of the class, %",
    "area_variance": "variance of the area ratio",
}
MOST_EXAMPLES = 24


def class_scatter(classes: pd.DataFrame, relations: pd.DataFrame) -> Figure:
    """Draw class accuracy before, after and gained (columns) against the area of objects (rows).

    The rows are for mean and variance of the area.

    Parameters
    ----------
    classes
        From `size_tables.per_class`; bars are its intervals.
    relations
        From `size_tables.class_relations`; Pearson's r with interval stands over each panel.
    """
    figure, axes = plt.subplots(2, 3, figsize=(PAGE, 4.4), sharex="row")
    pearson = relations[relations["method"] == "pearson"]
    many = len(classes) > 100
    for row, quantity in zip(axes, ("area_mean", "area_variance"), strict=True):
        x = classes[quantity] * (100 if quantity == "area_mean" else 1)
        for axis, outcome in zip(row, ("before", "after", "gain"), strict=True):
            _errorbar(axis, x, classes, outcome, lw=0.0 if many else 0.7, ms=2 if many else 3.5)
            here = (pearson["quantity"] == quantity) & (pearson["outcome"] == outcome)
            r, low, high = pearson.loc[here, ["r", "low", "high"]].iloc[0]
            axis.set_title(f"r = {r:+.2f} [{low:+.2f}, {high:+.2f}]", fontsize=8)
            axis.set_xlabel(_AXIS[quantity])
            axis.set_ylabel(_AXIS[outcome])
            if outcome == "gain":
                axis.axhline(0, color="black", linewidth=0.8)
    return figure


def accuracy_by_size(table: pd.DataFrame, unadapted: pd.DataFrame | None = None) -> Figure:
    """Draw accuracy before and after (left) and gain (right) in bins of size, with intervals.

    Parameters
    ----------
    table
        From `size_tables.by_bin`; sizes are fractions and drawn in per cent.
    unadapted
        The same with `before` of more images: a grey band.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(PAGE, 2.9), sharex=True)
    x = 100 * table["middle"].to_numpy()
    if unadapted is not None:
        wide = 100 * unadapted["middle"].to_numpy()
        low, high = (100 * unadapted[f"before_{side}"] for side in ("low", "high"))
        left.fill_between(wide, low, high, color="#bbbbbb", alpha=0.5, lw=0)
        left.plot(wide, 100 * unadapted["before"], color="#777777", lw=1.2, label="before, all")
    shift = 0.008 * (np.ptp(x) or 1.0)
    for outcome, sign in (("before", -1), ("after", 1)):
        _errorbar(left, x + sign * shift, table, outcome, lw=1.0, ms=3.5)
    left.set_ylabel("accuracy, %")
    _errorbar(right, x, table, "gain", lw=1.0, ms=3.5)
    right.axhline(0, color="black", linewidth=0.8)
    right.set_ylabel("gain, points")
    for axis in (left, right):
        axis.set_xlabel("area ratio of the object, %")
        axis.set_xlim(left=0)
    legend_below(figure, left)
    return figure


def forest(table: pd.DataFrame) -> Figure:
    """Draw odds ratios of a standard deviation more, with intervals, on a logarithmic axis.

    Parameters
    ----------
    table
        From `size_tables.regressions`; the intercept and terms without an interval are left out.
    """
    shown = table[(table["term"] != "intercept") & np.isfinite(table["low"])]
    terms, hues = list(dict.fromkeys(shown["term"])), list(dict.fromkeys(shown["outcome"]))
    figure, axis = plt.subplots(figsize=(PAGE * 0.8, 0.9 + 0.36 * len(terms)))
    axis.axvline(1, color="black", linewidth=0.8)
    for i, name in enumerate(hues):
        part = shown[shown["outcome"] == name].set_index("term").reindex(terms)
        intervals(
            axis, part, "odds_ratio", dodged(len(terms), i, len(hues), 0.3 * len(hues)), lying=True,
            low="odds_low", high="odds_high", scale=1, color=COLORS.get(name, PALETTE[i]),
            label=name,
        )  # fmt: skip
    axis.set_xscale("log", subs=[2, 5])
    for which in (axis.xaxis.set_major_formatter, axis.xaxis.set_minor_formatter):
        which(StrMethodFormatter("{x:g}"))
    name_rows(axis, [pretty(str(t)) for t in terms])
    axis.set_ylim(len(terms) - 0.5, -0.5)
    axis.set_xlabel("odds ratio of a right answer (95 % interval)")
    if hues:
        axis.legend(**ASIDE)
    return figure


def class_gains(table: pd.DataFrame, band: ArrayLike, names: Sequence[str]) -> Figure:
    """Draw the gain of each class, lowest first, its interval, and what chance gives each rank.

    Parameters
    ----------
    table
        From `statistics.class_intervals`; its label indexes `names`.
    band
        From `statistics.class_test`, shape [C, 2]; a grey band.
    names
        The names of the classes.
    """
    c = len(table)
    figure, axis = plt.subplots(figsize=(PAGE, 3.0))
    rank = np.arange(c)
    low, high = 100 * np.asarray(band).T
    grey: Look = {"color": "#bbbbbb", "alpha": 0.6, "lw": 0}
    axis.fill_between(rank, low, high, label="95 % of permutations", **grey)
    axis.axhline(0, color="black", linewidth=0.8)
    look: Look = {"ms": 3, "lw": 0.8} if c <= 100 else {"ms": 1.5, "lw": 0.3}
    label = "class, 95 % interval"
    intervals(axis, table, "gain", rank, color=COLORS["gain"], label=label, **look)
    if c <= 60:
        shown = [names[int(i)] for i in table["label"]]
        axis.set_xticks(rank, shown, rotation=90 if c > 12 else 0, fontsize=6 if c > 12 else 8)
    else:
        axis.set_xlabel("class, sorted by gain")
    axis.set_xlim(-0.7, c - 0.3)
    axis.set_ylabel("gain, points")
    axis.grid(axis="x", visible=False)
    legend_below(figure, axis)
    return figure


def object_examples(
    images: Tensor,
    boxes: Tensor | None,
    titles: Sequence[str],
    kinds: Sequence[str] = (),
    heading: str = "",
) -> Figure:
    """Draw images with their boxes, each in a frame whose colour says its kind.

    Without images and a heading the figure says that no answer changed.

    Parameters
    ----------
    images
        At most 24 images [N,3,H,W] in [0,1].
    boxes
        Their boxes [N,4] in pixels, or None.
    titles
        What stands above each image.
    kinds
        The kind of each image, of at most four different ones; a legend explains them.
    heading
        Stands over all of them, or alone where there are no images.

    Raises
    ------
    ValueError
        For more than 24 images.
    """
    n = len(images)
    if n > MOST_EXAMPLES:
        raise ValueError(f"{n} images in one figure are too many; show {MOST_EXAMPLES} or fewer")
    if n == 0:
        figure, axis = plt.subplots(figsize=(PAGE * 0.5, 0.8))
        axis.axis("off")
        axis.text(0.5, 0.5, heading or "no answer changed", ha="center", va="center")
        return figure
    columns, rows = min(8, n), -(-n // 8)
    size = (PAGE * max(columns, 4) / 8, 1.32 * rows + 0.35)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False)
    colors = dict(zip(dict.fromkeys(kinds), (PALETTE[3], PALETTE[2], *PALETTE[4:6]), strict=False))
    for axis in axes.flat:
        without_frame(axis)
    for i, axis in enumerate(axes.flat[:n]):
        draw(axis, images[i])
        axis.set_title(titles[i], fontsize=6, loc="center", fontweight="normal")
        if kinds:
            axis.spines[:].set(visible=True, linewidth=2, color=colors[kinds[i]])
        if boxes is not None:
            x1, y1, x2, y2 = (boxes[i] - 0.5).tolist()
            for width, color in ((1.6, "black"), (0.8, "white")):
                frame = Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, lw=width, ec=color)
                axis.add_patch(frame)
    if kinds:
        handles = [Rectangle((0, 0), 1, 1, fill=False, lw=2, ec=c) for c in colors.values()]
        figure.legend(handles, list(colors), loc="outside lower center", ncols=len(colors))
    if heading:
        figure.suptitle(heading, fontsize=8)
    return figure


def _errorbar(axis: Axes, x: ArrayLike, table: pd.DataFrame, name: str, **look: Any) -> None:
    """Draw column `name` with ``<name>_low`` and ``<name>_high`` (fractions), in per cent."""
    look |= {"color": COLORS[name], "label": f"{name} TTT"}
    intervals(axis, table, name, np.asarray(x), low=f"{name}_low", high=f"{name}_high", **look)
