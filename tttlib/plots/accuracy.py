"""Accuracies and their differences. Fractions enter, per cent are drawn."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tttlib.plots.style import PAGE, PALETTE, pretty


def accuracy_by_step(
    summary: pd.DataFrame, *, panel: str = "domain", line: str = "model", columns: int = 3
) -> Figure:
    """Accuracy after each step with its interval: one panel per `panel`, one curve per `line`.

    summary  columns step, mean, low, high (fractions), `panel`, `line`
    """
    names = list(dict.fromkeys(summary[panel]))
    rows = -(-len(names) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(PAGE, 1.9 * rows), sharex=True, squeeze=False
    )
    for axis, name in zip(axes.flat, names, strict=False):
        for i, (label, curve) in enumerate(
            summary[summary[panel] == name].groupby(line, sort=False)
        ):
            _band(axis, curve, PALETTE[i], str(label))
        axis.set_title(pretty(str(name)))
        axis.set_ylim(0, 100)
    for axis in axes.flat[len(names) :]:
        axis.set_visible(False)
    for axis in axes[:, 0]:
        axis.set_ylabel("accuracy, %")
    for axis in axes[-1]:
        axis.set_xlabel("TTT steps")
    if summary[line].nunique() > 1:
        handles, labels = axes.flat[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return figure


def accuracy_curves(summary: pd.DataFrame, *, line: str, title: str = "") -> Figure:
    """One panel of accuracy by step, one curve with interval per value of `line`."""
    figure, axis = plt.subplots(figsize=(PAGE * 0.62, 2.7))
    for i, (label, curve) in enumerate(summary.groupby(line, sort=False)):
        _band(axis, curve, PALETTE[i], str(label))
    axis.set(xlabel="TTT steps", ylabel="accuracy, %", title=title)
    axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


GAINED = "accuracy gained by TTT, points (95 % interval, same images)"


def gains(
    differences: pd.DataFrame,
    *,
    row: str = "domain",
    hue: str = "model",
    label: str = GAINED,
    linear_within: float | None = None,
) -> Figure:
    """Paired differences in points with intervals, one line per `row`, dodged by `hue`.

    differences    columns difference, low, high (fractions), `row`, `hue`
    label          of the axis: what the difference is
    linear_within  points on either side of zero; the axis is logarithmic beyond them
    """
    rows, hues = list(dict.fromkeys(differences[row])), list(dict.fromkeys(differences[hue]))
    height = 0.7 + 0.17 * len(rows) * (len(hues) + 0.7)
    width = PAGE * (0.62 if max(len(str(name)) for name in hues) < 16 else 0.85)
    figure, axis = plt.subplots(figsize=(width, height))
    axis.axvline(0, color="black", linewidth=0.8)
    for i, name in enumerate(hues):
        part = differences[differences[hue] == name].set_index(row).reindex(rows)
        y = np.arange(len(rows)) + (i - (len(hues) - 1) / 2) * 0.7 / max(1, len(hues))
        middle = 100 * part["difference"]
        error = np.abs([middle - 100 * part["low"], 100 * part["high"] - middle])
        axis.errorbar(middle, y, xerr=error, fmt="o", ms=3.5, lw=1.2, color=PALETTE[i], label=name)
    axis.set_yticks(range(len(rows)), [pretty(str(r)) for r in rows])
    axis.invert_yaxis()
    axis.grid(axis="y", visible=False)
    axis.set_xlabel(label)
    if linear_within is not None:
        _logarithmic_beyond(axis, linear_within)
    if len(hues) > 1:
        axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _logarithmic_beyond(axis: Axes, linear: float) -> None:
    """The x axis linear within +-`linear`, with a tick for each factor of ten beyond."""
    left, right = (1.5 * limit if abs(limit) > linear else limit for limit in axis.get_xlim())
    axis.set_xscale("symlog", linthresh=linear, linscale=1.5)
    axis.set_xlim(left, right)
    beside = [linear / 2, *(linear * 10.0**k for k in range(4))]
    ticks = [t for t in (*(-t for t in reversed(beside)), 0, *beside) if left <= t <= right]
    axis.set_xticks(ticks, [f"{t:g}" for t in ticks])
    axis.set_xticks([], minor=True)
    axis.set_xlabel(f"{axis.get_xlabel()} (logarithmic beyond {linear:g})")


def _band(axis: Axes, curve: pd.DataFrame, color: object, label: str) -> None:
    x = curve["step"].to_numpy()
    axis.plot(x, 100 * curve["mean"], color=color, label=label, linewidth=1.4)
    axis.fill_between(x, 100 * curve["low"], 100 * curve["high"], color=color, alpha=0.15, lw=0)
