"""How figures are put together: panels, legends, error bars, marks side by side."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from tttlib.plots.style import PAGE

ASIDE: dict[str, Any] = {"loc": "center left", "bbox_to_anchor": (1.0, 0.5)}
"""A legend to the right of its panel."""


def panels(
    n: int, columns: int, height: float, *, extra: float = 0.0, **options: Any
) -> tuple[Figure, np.ndarray]:
    """Return a figure of the page's width with `n` panels in rows of `columns`, and its axes.

    Parameters
    ----------
    n, columns
        The panels; those that fill up the last row are invisible.
    height, extra
        Of a row, and what the figure is higher by, in inches.
    options
        For `matplotlib.pyplot.subplots`.

    Returns
    -------
    Figure
        The figure.
    ndarray
        Its axes, shape [rows, columns].
    """
    rows = -(-n // columns)
    size = (PAGE, extra + height * rows)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, **options)
    for axis in axes.flat[n:]:
        axis.set_visible(False)
    return figure, axes


def label_panels(axes: np.ndarray, x: str, y: str) -> None:
    """Label the x axes of the last row and the y axes of the first column."""
    for axis in axes[:, 0]:
        axis.set_ylabel(y)
    for axis in axes[-1]:
        axis.set_xlabel(x)


def legend_below(figure: Figure, axis: Axes) -> None:
    """Put the legend of one panel below all of them, in one row."""
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))


def error_bars(
    table: pd.DataFrame, value: str, low: str = "low", high: str = "high", *, scale: float = 100
) -> np.ndarray:
    """Return the lengths of error bars below and above a column, shape [2, N]; 0 or more."""
    middle = table[value].astype("float64")
    return scale * np.array([middle - table[low], table[high] - middle]).clip(0)


def intervals(
    axis: Axes,
    table: pd.DataFrame,
    value: str,
    at: ArrayLike,
    *,
    lying: bool = False,
    low: str = "low",
    high: str = "high",
    scale: float = 100,
    **look: Any,
) -> None:
    """Draw a column as points with error bars, upright at places on x or `lying` at places on y.

    Parameters
    ----------
    table
        Columns `value`, `low` and `high`; they are multiplied by `scale`.
    look
        For `matplotlib.axes.Axes.errorbar`.
    """
    middle = scale * table[value].astype("float64")
    x, y, bars = (middle, at, "xerr") if lying else (at, middle, "yerr")
    look = {"fmt": "o", "ms": 3.5, "lw": 1.2, **look}
    look[bars] = error_bars(table, value, low, high, scale=scale)
    axis.errorbar(x, y, **look)


def dodged(n: int, i: int, of: int, width: float = 0.7) -> np.ndarray:
    """Return the places [n] of the i-th of several marks that lie side by side at 0 … n-1."""
    return np.arange(n) + (i - (of - 1) / 2) * width / max(1, of)


def name_rows(axis: Axes, names: list[str], **options: Any) -> None:
    """Name the rows 0, 1, … of a panel, from the top, without lines between them."""
    axis.set_yticks(range(len(names)), names, **options)
    axis.invert_yaxis()
    axis.grid(axis="y", visible=False)


def logarithmic_beyond(axis: Axes, linear: float, which: str = "x") -> None:
    """Make an axis linear within +-`linear`, with a tick for each factor of ten beyond.

    Parameters
    ----------
    axis
        Its label gets a remark.
    linear
        In points.
    which
        "x" or "y".
    """
    get = axis.properties()
    low, high = (1.5 * limit if abs(limit) > linear else limit for limit in get[f"{which}lim"])
    ticks = [linear / 2, *(linear * 10.0**k for k in range(4))]
    ticks = [t for t in (*(-t for t in reversed(ticks)), 0, *ticks) if low <= t <= high]
    gap = "\n" if which == "y" else " "
    label = f"{get[f'{which}label']}{gap}(logarithmic beyond {linear:g})"
    change = {f"{which}lim": (low, high), f"{which}label": label}
    scale, place = getattr(axis, f"set_{which}scale"), getattr(axis, f"set_{which}ticks")
    scale("symlog", linthresh=linear, linscale=1.5)
    place([], minor=True)
    place(ticks, [f"{t:g}" for t in ticks])
    axis.set(**change)
