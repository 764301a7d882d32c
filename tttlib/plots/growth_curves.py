"""How time grows with what is doubled."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from tttlib.plots.layout import panels
from tttlib.plots.style import PALETTE


def growth(table: pd.DataFrame) -> Figure:
    """Draw time over size, both over their smallest and logarithmic, a panel for each quantity.

    Parameters
    ----------
    table
        Columns quantity, size, times, exponent, low, high and expected; the expected growth is the
        grey line.
    """
    names = list(dict.fromkeys(table["quantity"]))
    figure, axes = panels(len(names), 4, 2.0, sharey=True)
    for axis, name in zip(axes.flat, names, strict=False):
        part = table[table["quantity"] == name]
        sizes = part["size"] / part["size"].iloc[0]
        first = part.iloc[0]
        axis.plot(sizes, sizes ** first["expected"], color="0.75", lw=3)
        axis.plot(sizes, part["times"], "o-", color=PALETTE[0], ms=3.5, lw=1.2)
        axis.set_xscale("log", base=2)
        axis.set_yscale("log", base=2)
        axis.set_title(
            f"{name}\n{first['exponent']:.2f} [{first['low']:.2f}, {first['high']:.2f}]", fontsize=8
        )
        axis.set_xlabel("times as many")
    for axis in axes[:, 0]:
        axis.set_ylabel("times as long")
    return figure
