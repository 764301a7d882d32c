"""Many methods at a glance: lines over rounds, and a map of differences by stream."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tttlib.plots.style import MARKERS, PAGE, PALETTE, pretty


def error_lines(errors: pd.DataFrame, x: str, label: str = "error, %") -> Figure:
    """Draw the error of every method over `x`, such as the round; the source's broad and grey.

    Parameters
    ----------
    errors
        Columns method, `x` and error (a fraction, or a difference of two).
    x
        A column of numbers.
    label
        Of the vertical axis.
    """
    figure, axis = plt.subplots(figsize=(PAGE, 3.2))
    for i, (name, part) in enumerate(errors.groupby("method", sort=False)):
        look = {"color": PALETTE[i % len(PALETTE)], "lw": 1.2, "ms": 4}
        look["marker"] = MARKERS[i % len(MARKERS)]
        if name == "source":
            look = {"color": "0.75", "lw": 4}
        axis.plot(part[x], 100 * part["error"], label=str(name), **look)
    axis.set(xlabel=pretty(x), ylabel=label)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(loc="outside right center", fontsize=7)
    return figure


def difference_map(differences: pd.DataFrame, *, row: str, column: str) -> Figure:
    """Draw paired differences of errors in points as a map; blue is better, red worse.

    Numbers are bold where the 95 % interval leaves zero. Colours end at 10 points.

    Parameters
    ----------
    differences
        Columns `row`, `column`, difference, low and high (fractions).
    row, column
        The columns that name rows and columns; a pair that is missing stays white.
    """
    rows, columns = (list(dict.fromkeys(differences[name])) for name in (row, column))
    table = 100 * differences.pivot_table(index=row, columns=column, values="difference")
    table = table.loc[rows, columns]
    height = 1.2 + 0.26 * len(rows)
    figure, axis = plt.subplots(figsize=(PAGE, height))
    axis.imshow(table.to_numpy(float), cmap="RdBu_r", vmin=-10, vmax=10, aspect="auto")
    for _, one in differences.iterrows():
        points = 100 * one["difference"]
        told = one["low"] > 0 or one["high"] < 0
        color = "white" if abs(points) > 7 else "black"
        place = (columns.index(one[column]), rows.index(one[row]))
        weight = "bold" if told else "normal"
        axis.text(*place, f"{points:+.1f}", ha="center", va="center", fontsize=6.5, color=color,
                  weight=weight)  # fmt: skip
    axis.set_yticks(np.arange(len(rows)), rows)
    axis.set_xticks(np.arange(len(columns)), columns, rotation=30, ha="right")
    axis.tick_params(labelsize=7)
    axis.grid(visible=False)
    return figure
