"""Accuracy against the object's size and place, and classes that gain or lose."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import StrMethodFormatter
from numpy.typing import ArrayLike
from torch import Tensor

from tttlib.plots.style import PAGE, PALETTE, pretty

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
    """Class accuracy before, after and gained (columns) against mean and variance of area (rows).

    classes    of `size_tables.per_class`; bars are its intervals
    relations  of `size_tables.class_relations`; Pearson's r with interval stands over each panel
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


def accuracy_by_size(
    table: pd.DataFrame,
    unadapted: pd.DataFrame | None = None,
    *,
    label: str = "area ratio of the object, %",
) -> Figure:
    """Accuracy before and after (left) and gain (right) in bins of size, with intervals.

    table      of `size_tables.by_bin`; sizes are fractions and drawn in per cent
    unadapted  the same with `before` of more images: a grey band
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
        axis.set_xlabel(label)
        axis.set_xlim(left=0)
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return figure


def forest(table: pd.DataFrame, *, hue: str = "outcome") -> Figure:
    """Odds ratios of a standard deviation more, with intervals, on a logarithmic axis.

    table  of `size_tables.regressions`; the intercept and terms without an interval are left out
    """
    shown = table[(table["term"] != "intercept") & np.isfinite(table["low"])]
    terms, hues = list(dict.fromkeys(shown["term"])), list(dict.fromkeys(shown[hue]))
    figure, axis = plt.subplots(figsize=(PAGE * 0.8, 0.9 + 0.36 * len(terms)))
    axis.axvline(1, color="black", linewidth=0.8)
    for i, name in enumerate(hues):
        part = shown[shown[hue] == name].set_index("term").reindex(terms)
        y = np.arange(len(terms)) + (i - (len(hues) - 1) / 2) * 0.3
        middle = part["odds_ratio"]
        error = np.abs([middle - part["odds_low"], part["odds_high"] - middle])
        color = COLORS.get(name, PALETTE[i])
        axis.errorbar(middle, y, xerr=error, fmt="o", ms=3.5, lw=1.2, color=color, label=name)
    axis.set_xscale("log", subs=[2, 5])
    for which in (axis.xaxis.set_major_formatter, axis.xaxis.set_minor_formatter):
        which(StrMethodFormatter("{x:g}"))
    axis.set_yticks(range(len(terms)), [pretty(str(t)) for t in terms])
    axis.set_ylim(len(terms) - 0.5, -0.5)
    axis.grid(axis="y", visible=False)
    axis.set_xlabel("odds ratio of a right answer (95 % interval)")
    if hues:
        axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def class_gains(table: pd.DataFrame, band: ArrayLike, names: Sequence[str]) -> Figure:
    """Gain of each class, lowest first, its interval, and where chance puts each rank (grey).

    table  of `statistics.class_intervals`, label indexes `names`
    band   [C,2] of `statistics.class_test`
    """
    c = len(table)
    figure, axis = plt.subplots(figsize=(PAGE, 3.0))
    rank = np.arange(c)
    low, high = 100 * np.asarray(band).T
    axis.fill_between(
        rank, low, high, color="#bbbbbb", alpha=0.6, lw=0, label="95 % of permutations"
    )
    error = 100 * np.abs([table["gain"] - table["low"], table["high"] - table["gain"]])
    axis.axhline(0, color="black", linewidth=0.8)
    axis.errorbar(
        rank, 100 * table["gain"], yerr=error, fmt="o", ms=3 if c <= 100 else 1.5,
        lw=0.8 if c <= 100 else 0.3, color=COLORS["gain"], label="class, 95 % interval",
    )  # fmt: skip
    if c <= 60:
        shown = [names[int(i)] for i in table["label"]]
        axis.set_xticks(rank, shown, rotation=90 if c > 12 else 0, fontsize=6 if c > 12 else 8)
    else:
        axis.set_xlabel("class, sorted by gain")
    axis.set_xlim(-0.7, c - 0.3)
    axis.set_ylabel("gain, points")
    axis.grid(axis="x", visible=False)
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2)
    return figure


def object_examples(
    images: Tensor, boxes: Tensor | None, titles: Sequence[str], kinds: Sequence[str] = ()
) -> Figure:
    """Images [N,3,H,W] in [0,1], N at most 24, with their box; a frame in the colour of its kind.

    titles  above each image; kinds of at most four different ones, told in the legend
    Without images the figure says that there are none. Raises ValueError for more than 24.
    """
    n = len(images)
    if n > MOST_EXAMPLES:
        raise ValueError(f"{n} images in one figure are too many; show {MOST_EXAMPLES} or fewer")
    if n == 0:
        figure, axis = plt.subplots(figsize=(PAGE * 0.5, 0.8))
        axis.axis("off")
        axis.text(0.5, 0.5, "no answer changed", ha="center", va="center")
        return figure
    columns = min(8, n)
    rows = -(-n // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(PAGE * max(columns, 4) / 8, 1.32 * rows + 0.35), squeeze=False
    )
    colors = dict(zip(dict.fromkeys(kinds), (PALETTE[3], PALETTE[2], *PALETTE[4:6]), strict=False))
    for i, axis in enumerate(axes.flat):
        axis.set(xticks=[], yticks=[])
        axis.grid(visible=False)
        for spine in axis.spines.values():
            spine.set_visible(i < n and bool(kinds))
            spine.set(linewidth=2, color=colors[kinds[i]] if i < len(kinds) else "none")
        if i >= n:
            continue
        axis.imshow(images[i].permute(1, 2, 0).clamp(0, 1).numpy(), interpolation="nearest")
        axis.set_title(titles[i], fontsize=6, loc="center", fontweight="normal")
        if boxes is not None:
            x1, y1, x2, y2 = (boxes[i] - 0.5).tolist()
            for width, color in ((1.6, "black"), (0.8, "white")):
                frame = Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, lw=width, ec=color)
                axis.add_patch(frame)
    if kinds:
        handles = [Rectangle((0, 0), 1, 1, fill=False, lw=2, ec=c) for c in colors.values()]
        figure.legend(handles, list(colors), loc="outside lower center", ncols=len(colors))
    return figure


def _errorbar(
    axis: Axes,
    x: ArrayLike,
    table: pd.DataFrame,
    name: str,
    *,
    lw: float,
    ms: float,
) -> None:
    """Column `name` with `<name>_low` and `<name>_high` (fractions), in per cent."""
    middle = 100 * table[name].astype("float64")
    low, high = 100 * table[f"{name}_low"], 100 * table[f"{name}_high"]
    error = np.maximum([middle - low, high - middle], 0)
    axis.errorbar(
        np.asarray(x), middle, yerr=error, fmt="o", ms=ms, lw=lw,
        elinewidth=lw, color=COLORS[name], label=f"{name} TTT",
    )  # fmt: skip
