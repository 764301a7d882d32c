"""A grid of settings with early stopping, and gains along one setting."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from tttlib.plots.style import PAGE, PALETTE


def early_stopping_grid(grid: pd.DataFrame, *, rows: str, columns: str) -> Figure:
    """Left: the gain at the best step of each setting, as a heatmap. Right: gain by step.

    grid  columns `rows`, `columns`, step (above 0), difference, low, high (fractions); the curves
          are those of the column that holds the best setting
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
    drawn = left.imshow(gain, cmap="PuOr_r", vmin=-limit, vmax=limit, aspect="auto")
    for i, j in np.ndindex(gain.shape):
        ink = "white" if abs(gain[i, j]) > 0.6 * limit else "black"
        text = f"{gain[i, j]:+.1f}\nstep {step[i, j]:.0f}"
        left.text(j, i, text, ha="center", va="center", fontsize=7, color=ink)
    left.set_yticks(range(len(down)), [f"{value:g}" for value in down])
    left.set_xticks(range(len(across)), [f"{value:g}" for value in across])
    left.grid(visible=False)
    left.set(title="gain at the best step", xlabel=_words(columns), ylabel=_words(rows))
    figure.colorbar(drawn, ax=left, label="points", shrink=0.8)
    winner = float(best[columns].iloc[0])
    right.axhline(0, color="black", linewidth=0.8)
    for i, (value, curve) in enumerate(grid[grid[columns] == winner].groupby(rows)):
        x = curve["step"] * (1 + 0.03 * i)  # side by side
        error = _error(curve)
        right.errorbar(
            x, 100 * curve["difference"], yerr=error, fmt="o-", ms=3.5, lw=1.2, color=PALETTE[i],
            label=f"{value:g}",
        )  # fmt: skip
    right.set_xscale("log")
    ticks = sorted(grid["step"].unique())
    right.set_xticks(ticks, [str(t) for t in ticks])
    right.minorticks_off()
    right.set(title=f"{_words(columns)} {winner:g}", xlabel="TTT steps", ylabel="gain, points")
    right.legend(title=_words(rows), loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def gains_along(table: pd.DataFrame, *, x: str, line: str, label: str) -> Figure:
    """Paired gains with intervals against a number on a log 2 axis, one curve per `line`.

    table  columns `x`, `line`, difference, low, high (fractions)
    label  of the x axis
    """
    figure, axis = plt.subplots(figsize=(PAGE * 0.62, 2.7))
    axis.axhline(0, color="black", linewidth=0.8)
    names = list(dict.fromkeys(table[line]))
    for i, name in enumerate(names):
        curve = table[table[line] == name].sort_values(x)
        shifted = curve[x] * 2 ** (0.12 * (i - (len(names) - 1) / 2))  # side by side
        axis.errorbar(
            shifted, 100 * curve["difference"], yerr=_error(curve), fmt="o-", ms=3.5, lw=1.2,
            capsize=2, color=PALETTE[i], label=str(name),
        )  # fmt: skip
    axis.set_xscale("log", base=2)
    ticks = sorted(table[x].unique())
    axis.set_xticks(ticks, [f"{t:g}" for t in ticks])
    axis.minorticks_off()
    axis.set(xlabel=label, ylabel="gain, points")
    axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _error(curve: pd.DataFrame) -> np.ndarray:
    """Lengths of the bars below and above, in points."""
    middle = curve["difference"]
    return 100 * np.array([middle - curve["low"], curve["high"] - middle]).clip(0)


def _words(name: str) -> str:
    return {"lr": "learning rate"}.get(name, name.replace("_", " "))
