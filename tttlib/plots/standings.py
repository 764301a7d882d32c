"""Methods on one stream, best first, and which cannot be told from the best."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from tttlib.plots.layout import intervals, name_rows
from tttlib.plots.style import PAGE, PALETTE


def standing(table: pd.DataFrame, highlighted: str = "palm") -> Figure:
    """Draw the error of methods with the interval of their difference from the best.

    A bar that reaches the line of the best says that the method is as good; its point is filled.

    Parameters
    ----------
    table
        From `decision_tables.standing`: method, n, error, low, high, as_good; fractions.
    highlighted
        The method with a colour of its own.
    """
    best = table["error"].iloc[0]
    bars = table.assign(low=best + table["low"], high=best + table["high"])
    figure, axis = plt.subplots(figsize=(PAGE * 0.75, 0.9 + 0.24 * len(table)))
    axis.axvline(100 * best, color="black", lw=0.8)
    for place, (_, one) in enumerate(bars.iterrows()):
        color = PALETTE[3] if one["method"] == highlighted else PALETTE[0]
        look = {"color": color, "ms": 6, "mfc": color if one["as_good"] else "white"}
        intervals(axis, one.to_frame().T, "error", np.array([place]), lying=True, **look)
        axis.text(1.01, place, f"{100 * one['error']:.1f}", transform=axis.get_yaxis_transform(),
                  va="center", fontsize=8, color=color)  # fmt: skip
    name_rows(axis, list(table["method"]))
    axis.set_ylim(len(table) - 0.5, -0.5)
    for label in axis.get_yticklabels():
        if label.get_text() == highlighted:
            label.set(color=PALETTE[3], weight="bold")
    what = "error, %; bars: the best's plus the 95 % interval of the paired difference"
    axis.set_xlabel(what, fontsize=8)
    axis.set_title(f"{int(table['n'].iloc[0])} arrivals; filled: as good as the best", fontsize=8)
    return figure
