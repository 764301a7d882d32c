"""Accuracy along a stream, and what it costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from tttlib.plots.style import PAGE, PALETTE, pretty


def along_stream(
    curves: pd.DataFrame,
    *,
    panel: str,
    line: str = "method",
    heldout: pd.DataFrame | None = None,
    edges: Sequence[int] = (),
) -> Figure:
    """Moving average of the accuracy along streams, and the held-out accuracy as points.

    curves   columns position, mean (fractions), `panel`, `line`
    heldout  columns position, mean, low, high, `panel`, `line`
    edges    positions at which the stream changes, drawn as vertical lines
    """
    panels = list(dict.fromkeys(curves[panel]))
    lines = list(dict.fromkeys([*curves[line], *([] if heldout is None else heldout[line])]))
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(PAGE, 1.0 + 1.7 * rows), squeeze=False, sharex=True
    )
    for axis, name in zip(axes.flat, panels, strict=False):
        for edge in edges:
            axis.axvline(edge, color="0.7", lw=0.8)
        for i, label in enumerate(lines):
            curve = curves[(curves[panel] == name) & (curves[line] == label)]
            axis.plot(curve["position"], 100 * curve["mean"], **_look(label, i))
            if heldout is not None:
                points = heldout[(heldout[panel] == name) & (heldout[line] == label)]
                error = [
                    100 * (points["mean"] - points["low"]),
                    100 * (points["high"] - points["mean"]),
                ]
                axis.errorbar(
                    points["position"], 100 * points["mean"], yerr=error, fmt="o-", ms=3.5,
                    lw=0.8, color=_look(label, i)["color"],
                )  # fmt: skip
        axis.set_title(pretty(str(name)))
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    for axis in axes[:, 0]:
        axis.set_ylabel("accuracy, %")
    for axis in axes[-1]:
        axis.set_xlabel("images seen")
    handles = [plt.Line2D([], [], **_look(x, i), label=pretty(str(x))) for i, x in enumerate(lines)]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(4, len(lines)))
    return figure


def _look(label: str, i: int) -> dict[str, Any]:
    """The source is broad and grey, so that a method that does nothing still shows on it."""
    if label == "source":
        return {"color": "0.7", "lw": 3.2}
    return {"color": PALETTE[i], "lw": 1.2}


def cost(summary: pd.DataFrame, *, panel: str = "domain") -> Figure:
    """Accuracy against image passes: the source, standard TTT at several steps, online TTT.

    summary  columns method ("source", "standard", "online"), passes (masked copies an image),
             mean, low, high (fractions), `panel`
    """
    panels = list(dict.fromkeys(summary[panel]))
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(PAGE, 0.8 + 1.7 * rows), squeeze=False, sharex=True
    )
    styles = {"source": ("o", "0.35"), "standard": ("s", PALETTE[0]), "online": ("D", PALETTE[1])}
    for axis, name in zip(axes.flat, panels, strict=False):
        for method, (marker, color) in styles.items():
            points = summary[(summary[panel] == name) & (summary["method"] == method)]
            error = [
                100 * (points["mean"] - points["low"]),
                100 * (points["high"] - points["mean"]),
            ]
            axis.errorbar(
                points["passes"], 100 * points["mean"], yerr=error, fmt=marker + "-", ms=4, lw=1,
                color=color, label=method,
            )  # fmt: skip
        axis.set_title(pretty(str(name)))
        axis.set_xscale("symlog", base=2, linthresh=1)
        ticks = sorted(set(summary["passes"]))
        axis.set_xticks(ticks, [f"{t:g}" for t in ticks], fontsize=6.5)
        axis.minorticks_off()
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    for axis in axes[:, 0]:
        axis.set_ylabel("accuracy, %")
    for axis in axes[-1]:
        axis.set_xlabel("masked copies an image")
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return figure
