"""A grid of settings with early stopping, and gains along one setting or the size of a step."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from tttlib.plots.layout import ASIDE, intervals
from tttlib.plots.style import PAGE, PALETTE, Look, pretty


def early_stopping_grid(grid: pd.DataFrame, *, rows: str, columns: str) -> Figure:
    """Draw the gain at the best step of each setting as a heatmap, and gain by step beside it.

    Parameters
    ----------
    grid
        Columns `rows`, `columns`, step (above 0), difference, low, high (fractions). The curves are
        those of the column that holds the best setting.
    rows, columns
        The columns of the table that name a row and a column of the heatmap.
    """
    ranked = grid.sort_values(["difference", "step"], ascending=[False, True])
    best = ranked.drop_duplicates([rows, columns])
    down, across = sorted(best[rows].unique()), sorted(best[columns].unique())
    gain, step = (
        best.pivot(index=rows, columns=columns, values=k).loc[down, across].to_numpy(float)
        for k in ("difference", "step")
    )
    gain = 100 * gain
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(PAGE, 2.9), width_ratios=[len(across) + 1.5, 5]
    )
    limit = max(1.0, np.abs(gain).max())
    heatmap = left.imshow(gain, cmap="PuOr_r", vmin=-limit, vmax=limit, aspect="auto")
    for i, j in np.ndindex(gain.shape):
        ink = "white" if abs(gain[i, j]) > 0.6 * limit else "black"
        text = f"{gain[i, j]:+.1f}\nstep {step[i, j]:.0f}"
        left.text(j, i, text, ha="center", va="center", fontsize=7, color=ink)
    left.set_yticks(range(len(down)), [f"{value:g}" for value in down])
    left.set_xticks(range(len(across)), [f"{value:g}" for value in across])
    left.grid(visible=False)
    left.set(title="gain at the best step", xlabel=_words(columns), ylabel=_words(rows))
    figure.colorbar(heatmap, ax=left, label="points", shrink=0.8)
    winner = float(best[columns].iloc[0])
    right.axhline(0, color="black", linewidth=0.8)
    for i, (value, curve) in enumerate(grid[grid[columns] == winner].groupby(rows)):
        beside = curve["step"] * (1 + 0.03 * i)
        look: Look = {"fmt": "o-", "color": PALETTE[i], "label": f"{value:g}"}
        intervals(right, curve, "difference", beside, **look)
    right.set_xscale("log")
    ticks = sorted(grid["step"].unique())
    right.set_xticks(ticks, [str(t) for t in ticks])
    right.minorticks_off()
    right.set(title=f"{_words(columns)} {winner:g}", xlabel="TTT steps", ylabel="gain, points")
    right.legend(title=_words(rows), **ASIDE)
    return figure


def gains_along(table: pd.DataFrame, *, x: str, line: str, label: str) -> Figure:
    """Draw paired gains with intervals against a number on a logarithmic axis of base 2.

    Parameters
    ----------
    table
        Columns `x`, `line`, difference, low, high (fractions).
    x, line
        The columns of the number and of what names a curve.
    label
        Of the x axis.
    """
    figure, axis = plt.subplots(figsize=(PAGE * 0.62, 2.7))
    axis.axhline(0, color="black", linewidth=0.8)
    names = list(dict.fromkeys(table[line]))
    for i, name in enumerate(names):
        curve = table[table[line] == name].sort_values(x)
        beside = curve[x] * 2 ** (0.12 * (i - (len(names) - 1) / 2))
        look: Look = {"fmt": "o-", "capsize": 2, "color": PALETTE[i], "label": str(name)}
        intervals(axis, curve, "difference", beside, **look)
    axis.set_xscale("log", base=2)
    ticks = sorted(table[x].unique())
    axis.set_xticks(ticks, [f"{t:g}" for t in ticks])
    axis.minorticks_off()
    axis.set(xlabel=label, ylabel="gain, points")
    axis.legend(**ASIDE)
    return figure


def step_sizes(
    table: pd.DataFrame, *, panel: str, marks: Mapping[str, Mapping[str, float]]
) -> Figure:
    """Draw gain and share of changed answers over the learning rate, a column for each network.

    Parameters
    ----------
    table
        Columns `panel`, lr, n, difference, low, high (fractions), mended and broken: that of
        `evaluate.choose_step`.
    panel
        The column that names a column of the figure.
    marks
        For each column of the figure the learning rates to mark, by their names.
    """
    names = list(dict.fromkeys(table[panel]))
    figure, axes = plt.subplots(
        2, len(names), figsize=(PAGE, 3.6), sharex="col", sharey="row", squeeze=False,
        height_ratios=[3, 2],
    )  # fmt: skip
    for (top, below), name in zip(axes.T, names, strict=True):
        curve = table[table[panel] == name].sort_values("lr")
        top.axhline(0, color="black", linewidth=0.8)
        look: Look = {"fmt": "o-", "capsize": 2, "color": PALETTE[0]}
        intervals(top, curve, "difference", curve["lr"], **look)
        for i, kind in enumerate(("mended", "broken"), 1):
            share = 100 * curve[kind] / curve["n"]
            below.plot(curve["lr"], share, "o-", color=PALETTE[i], label=kind)
        for i, (label, lr) in enumerate(marks.get(name, {}).items()):
            style = ("dotted", "dashed")[i % 2]
            for axis in (top, below):
                axis.axvline(lr, color="0.4", linestyle=style, linewidth=1, label=label)
        top.set(xscale="log", title=str(name))
        below.set_xlabel("learning rate")
        if name in marks:
            top.legend(fontsize=7)
    axes[0, 0].set_ylabel("gain, points")
    axes[1, 0].set_ylabel("answers, %")
    axes[1, 0].legend(axes[1, 0].lines[:2], ["mended", "broken"], fontsize=7)
    return figure


def _words(name: str) -> str:
    return {"lr": "learning rate"}.get(name, pretty(name))
