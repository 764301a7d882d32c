"""Shares of variance: along an axis, and before and after something was done."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tttlib.plots.layout import ASIDE, dodged, intervals, legend_below, name_rows, panels
from tttlib.plots.style import MARKERS, PAGE, PALETTE, Look

FACTOR_COLORS = {
    "corruption": PALETTE[0],
    "class": PALETTE[1],
    "corruption x class": PALETTE[2],
    "image": PALETTE[3],
    "rest": "#777777",
    "corruption - class": PALETTE[4],
}
_MARKERS = dict(zip(FACTOR_COLORS, "os^Dvx", strict=True))


def variance_lines(table: pd.DataFrame, *, x: str, panel: str) -> Figure:
    """Draw shares of corruption and class with intervals along `x`, one panel per value of `panel`.

    Of more than five values, five evenly spread ones have panels, the last one included.

    Parameters
    ----------
    table
        Columns factor, share, low, high (fractions), `x` and `panel`, in the order to be drawn.
    x, panel
        The columns of the axis and of what names a panel.
    """
    names = list(dict.fromkeys(table[panel]))
    spread = np.linspace(0, len(names) - 1, min(5, len(names))).round().astype(int)
    names, places = [names[i] for i in spread], list(dict.fromkeys(table[x]))
    figure, axes = panels(len(names), len(names), 2.3, sharey=True)
    for axis, name in zip(axes[0], names, strict=True):
        part = table[table[panel] == name]
        for factor in ("corruption", "class"):
            curve = part[part["factor"] == factor].set_index(x).reindex(places)
            at, color = range(len(places)), FACTOR_COLORS[factor]
            look: Look = {"marker": _MARKERS[factor], "ms": 3.5, "lw": 1.3, "label": _words(factor)}
            axis.plot(at, 100 * curve["share"], color=color, **look)
            axis.fill_between(at, 100 * curve["low"], 100 * curve["high"], color=color, alpha=0.15)
        axis.axhline(0, color="black", linewidth=0.6)
        axis.set_title(str(name) if isinstance(name, str) else f"{panel} {name}")
        _ticks(axis, places)
        axis.set_xlabel("after block" if x == "layer" else x)
        axis.grid(axis="x", visible=False)
    axes[0, 0].set_ylabel("share of variance, %")
    legend_below(figure, axes[0, 0])
    return figure


def variance_points(
    table: pd.DataFrame,
    *,
    hue: str,
    factors: Sequence[str] = ("corruption", "class", "corruption x class", "image", "rest"),
    label: str = "share of variance, %",
) -> Figure:
    """Draw shares of variance, or their changes, with intervals: a row per factor.

    Parameters
    ----------
    table
        Columns factor, share, low, high (fractions) and `hue`.
    hue
        The column that names a colour. Its value "before" is grey, so that the others keep their
        colours in a figure without it.
    factors
        The factors to draw.
    label
        Of the axis.
    """
    hues = list(dict.fromkeys(table[hue]))
    colored = [name for name in hues if name != "before"]
    looks = dict(zip(colored, zip(PALETTE, MARKERS, strict=False), strict=False))
    height = 0.8 + 0.11 * len(factors) * (len(hues) + 0.8)
    figure, axis = plt.subplots(figsize=(PAGE * 0.8, height))
    axis.axvline(0, color="black", linewidth=0.8)
    for i, name in enumerate(hues):
        part = table[table[hue] == name].set_index("factor").reindex(factors)
        color, marker = looks.get(name, ("#777777", "x"))
        look: Look = {"fmt": marker, "color": color, "label": str(name)}
        intervals(axis, part, "share", dodged(len(factors), i, len(hues)), lying=True, **look)
    name_rows(axis, [_words(f) for f in factors])
    axis.set_xlabel(label)
    axis.legend(**ASIDE, fontsize=7)
    return figure


def _words(factor: str) -> str:
    return factor.replace(" x ", " × ").replace(" - ", " minus ")


def _ticks(axis: Axes, places: Sequence[object]) -> None:
    """Write names under the positions; of many every third one, the last one always."""
    names = ["end" if p == "norm" else str(p).removeprefix("block ") for p in places]
    step = 1 if len(names) <= 6 else 3
    shown = sorted({*range(0, len(names) - step + 1, step), len(names) - 1})
    axis.set_xticks(shown, [names[i] for i in shown])
