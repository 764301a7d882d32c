"""Accuracy along a stream, and what it costs."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from tttlib.plots.layout import intervals, label_panels, legend_below, panels
from tttlib.plots.style import PALETTE, Look, pretty


def along_stream(
    curves: pd.DataFrame, *, panel: str, line: str = "method", heldout: pd.DataFrame | None = None
) -> Figure:
    """Draw the moving average of the accuracy along streams, and the held-out accuracy as points.

    Parameters
    ----------
    curves
        Columns position, mean (fractions), `panel` and `line`.
    panel, line
        The columns that name a panel and a curve.
    heldout
        Columns position, mean, low, high, `panel` and `line`.
    """
    names = list(dict.fromkeys(curves[panel]))
    lines = list(dict.fromkeys([*curves[line], *([] if heldout is None else heldout[line])]))
    figure, axes = panels(len(names), min(3, len(names)), 1.7, extra=1.0, sharex=True)
    for axis, name in zip(axes.flat, names, strict=False):
        for i, label in enumerate(lines):
            curve = curves[(curves[panel] == name) & (curves[line] == label)]
            axis.plot(curve["position"], 100 * curve["mean"], **_look(label, i))
            if heldout is not None:
                points = heldout[(heldout[panel] == name) & (heldout[line] == label)]
                look: Look = {"fmt": "o-", "lw": 0.8, "color": _look(label, i)["color"]}
                intervals(axis, points, "mean", points["position"], **look)
        axis.set_title(pretty(str(name)))
    label_panels(axes, "images seen", "accuracy, %")
    handles = [plt.Line2D([], [], **_look(x, i), label=pretty(str(x))) for i, x in enumerate(lines)]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(4, len(lines)))
    return figure


def cost(summary: pd.DataFrame) -> Figure:
    """Draw accuracy against image passes: the source, standard TTT at several steps, online TTT.

    Parameters
    ----------
    summary
        Columns method ("source", "standard", "online"), passes (masked copies an image), mean, low,
        high (fractions) and domain, which has a panel each.
    """
    names = list(dict.fromkeys(summary["domain"]))
    figure, axes = panels(len(names), min(3, len(names)), 1.7, extra=0.8, sharex=True)
    styles = {"source": ("o", "0.35"), "standard": ("s", PALETTE[0]), "online": ("D", PALETTE[1])}
    ticks = sorted(set(summary["passes"]))
    for axis, name in zip(axes.flat, names, strict=False):
        for method, (marker, color) in styles.items():
            points = summary[(summary["domain"] == name) & (summary["method"] == method)]
            look: Look = {"fmt": marker + "-", "ms": 4, "lw": 1, "color": color, "label": method}
            intervals(axis, points, "mean", points["passes"], **look)
        axis.set_title(pretty(str(name)))
        axis.set_xscale("symlog", base=2, linthresh=1)
        axis.set_xticks(ticks, [f"{t:g}" for t in ticks], fontsize=6.5)
        axis.minorticks_off()
    label_panels(axes, "masked copies an image", "accuracy, %")
    legend_below(figure, axes.flat[0])
    return figure


def _look(label: str, i: int) -> dict[str, Any]:
    """Make the source broad and grey, so that a method that does nothing still shows on it."""
    if label == "source":
        return {"color": "0.7", "lw": 3.2}
    return {"color": PALETTE[i], "lw": 1.2}
