"""The latent space."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from tttlib.plots.layout import ASIDE, dodged, legend_below, panels
from tttlib.plots.style import DOMAIN_COLORS, PAGE, PALETTE, Look, pretty


def latent_scatter(table: pd.DataFrame, explained: Sequence[float]) -> Figure:
    """Draw CLS latents on two principal components: colour is the corruption, marker the class.

    Parameters
    ----------
    table
        Columns pc1, pc2, domain and class.
    explained
        Shares of variance of the two components.
    """
    figure, axis = plt.subplots(figsize=(PAGE * 0.62, 3.4))
    names = list(dict.fromkeys(table["class"]))
    for marker, name in zip("ox^sD", names, strict=False):
        for domain, part in table[table["class"] == name].groupby("domain", sort=False):
            look: Look = {
                "s": 14,
                "alpha": 0.7,
                "linewidths": 0.8,
                "label": f"{pretty(domain)}, {name}",
            }
            color = DOMAIN_COLORS.get(domain)
            axis.scatter(part["pc1"], part["pc2"], marker=marker, color=color, **look)
    axis.set(xlabel=component(1, explained), ylabel=component(2, explained))
    axis.legend(**ASIDE, fontsize=7)
    return figure


def trajectories(table: pd.DataFrame, explained: Sequence[float], steps: Sequence[int]) -> Figure:
    """Draw latents during TTT on shared axes: one panel per step, colour is the class.

    Parameters
    ----------
    table
        Columns pc1, pc2, step, class, id.
    explained
        Shares of variance of the two components.
    steps
        The steps to draw.
    """
    n = len(steps)
    figure, axes = panels(n, n, PAGE / n, extra=0.7, sharex=True, sharey=True)
    classes = list(dict.fromkeys(table["class"]))
    for axis, step in zip(axes[0], steps, strict=True):
        for color, name in zip(PALETTE, classes, strict=False):
            mine = table[table["class"] == name]
            for _, path in mine[mine["step"] <= step].groupby("id"):
                axis.plot(path["pc1"], path["pc2"], color=color, linewidth=0.4, alpha=0.35)
            now = mine[mine["step"] == step]
            axis.scatter(now["pc1"], now["pc2"], s=9, color=color, linewidths=0, label=name)
        axis.set_title(f"step {step}")
        axis.set_xlabel(component(1, explained))
    axes[0, 0].set_ylabel(component(2, explained))
    legend_below(figure, axes[0, 0])
    return figure


def shares(table: pd.DataFrame, *, value: str, chance: str) -> Figure:
    """Draw bars of a share by corruption set, with a tick at the chance level of each.

    Parameters
    ----------
    table
        Columns domain_set, factor, `value` and `chance` (fractions).
    value, chance
        The columns of the share and of its chance level.
    """
    figure, axis = plt.subplots(figsize=(PAGE * 0.8, 2.4))
    groups, sets = list(dict.fromkeys(table["factor"])), list(dict.fromkeys(table["domain_set"]))
    width = 0.8 / len(groups)
    for i, name in enumerate(groups):
        part = table[table["factor"] == name].set_index("domain_set").reindex(sets)
        x = dodged(len(sets), i, len(groups), 0.8)
        axis.bar(x, 100 * part[value], width * 0.9, color=PALETTE[i], label=str(name))
        low, high = x - width * 0.45, x + width * 0.45
        axis.hlines(100 * part[chance], low, high, color="black", lw=1.2)
    axis.set_xticks(range(len(sets)), [fill(str(s), 14) for s in sets], fontsize=7)
    axis.set_ylabel("linear separability, %")
    axis.grid(axis="x", visible=False)
    axis.legend(**ASIDE, title="line: chance")
    return figure


def component(number: int, explained: Sequence[float]) -> str:
    """Return the label of the axis of a principal component: PC 1 (70 %)."""
    return f"PC {number} ({100 * explained[number - 1]:.0f} %)"
