"""Accuracies and their differences. Fractions are given, per cent are drawn."""

from __future__ import annotations

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tttlib.plots import layout
from tttlib.plots.style import PAGE, PALETTE, pretty

GAINED = "accuracy gained by TTT, points (95 % interval, same images)"


def accuracy_by_step(summary: pd.DataFrame) -> Figure:
    """Draw the accuracy after each step with its interval, a panel per domain, a line per model.

    Parameters
    ----------
    summary
        Columns domain, model, step, mean, low, high (fractions).
    """
    domains = list(dict.fromkeys(summary["domain"]))
    figure, axes = layout.panels(len(domains), 3, 1.9, sharex=True)
    for axis, domain in zip(axes.flat, domains, strict=False):
        _curves(axis, summary[summary["domain"] == domain], "model")
        axis.set_title(pretty(str(domain)))
        axis.set_ylim(0, 100)
    layout.label_panels(axes, "TTT steps", "accuracy, %")
    if summary["model"].nunique() > 1:
        layout.legend_below(figure, axes.flat[0])
    return figure


def accuracy_curves(summary: pd.DataFrame, *, line: str, title: str = "") -> Figure:
    """Draw one panel of accuracy by step, one curve with interval per value of column `line`."""
    figure, axis = plt.subplots(figsize=(PAGE * 0.62, 2.7))
    _curves(axis, summary, line)
    axis.set(xlabel="TTT steps", ylabel="accuracy, %", title=title)
    axis.legend(**layout.ASIDE)
    return figure


def gains(
    differences: pd.DataFrame,
    *,
    row: str = "domain",
    hue: str = "model",
    label: str = GAINED,
    linear_within: float | None = None,
) -> Figure:
    """Draw paired differences in points with layout.intervals, several side by side in each row.

    Parameters
    ----------
    differences
        Columns difference, low, high (fractions), `row` and `hue`.
    row, hue
        The columns that name a row and a colour.
    label
        Of the axis: what the difference is.
    linear_within
        Points on either side of zero; the axis is logarithmic beyond them.
    """
    rows, hues = list(dict.fromkeys(differences[row])), list(dict.fromkeys(differences[hue]))
    height = 0.7 + 0.17 * len(rows) * (len(hues) + 0.7)
    width = PAGE * (0.62 if max(len(str(name)) for name in hues) < 16 else 0.85)
    figure, axis = plt.subplots(figsize=(width, height))
    axis.axvline(0, color="black", linewidth=0.8)
    for i, name in enumerate(hues):
        part = differences[differences[hue] == name].set_index(row).reindex(rows)
        at = layout.dodged(len(rows), i, len(hues))
        layout.intervals(axis, part, "difference", at, lying=True, color=PALETTE[i], label=name)
    layout.name_rows(axis, [pretty(str(r)) for r in rows])
    axis.set_xlabel(label)
    if linear_within is not None:
        layout.logarithmic_beyond(axis, linear_within)
    if len(hues) > 1:
        axis.legend(**layout.ASIDE)
    return figure


def _curves(axis: Axes, summary: pd.DataFrame, line: str) -> None:
    for i, (name, curve) in enumerate(summary.groupby(line, sort=False)):
        x, color = curve["step"].to_numpy(), PALETTE[i]
        axis.plot(x, 100 * curve["mean"], color=color, label=str(name), linewidth=1.4)
        axis.fill_between(x, 100 * curve["low"], 100 * curve["high"], color=color, alpha=0.15, lw=0)
