"""Errors of adaptation methods along a stream, and what PALM does to each stage."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from tttlib.plots.layout import intervals, legend_below, logarithmic_beyond, panels
from tttlib.plots.style import MARKERS, PAGE, PALETTE, pretty


def error_by_block(errors: pd.DataFrame) -> Figure:
    """Draw the error along the stream, one line per method, the source's broad and grey.

    Parameters
    ----------
    errors
        Columns method, block, domain, error (fractions).
        A second panel shows the other methods' error minus BN-1's, where there is one. Its axis is
        logarithmic beyond the differences that most points have, so nothing is cut off.
    """
    reference, minus = "source", "bn1"
    table = 100 * errors.pivot_table(index="block", columns="method", values="error", sort=False)
    below = minus in table and table.shape[1] > 2
    size = (PAGE, 2.6 + 2.2 * below)
    figure, axes = plt.subplots(1 + below, 1, figsize=size, sharex=True, squeeze=False)
    for i, name in enumerate(table):
        look = {"color": PALETTE[i % len(PALETTE)], "lw": 1.2, "ms": 4}
        look["marker"] = MARKERS[i % len(MARKERS)]
        if name == reference:
            look = {"color": "0.75", "lw": 4}
        axes[0, 0].plot(table.index, table[name], label=str(name), **look)
        if below and name not in (reference, minus):
            axes[1, 0].plot(table.index, table[name] - table[minus], **look)
    axes[0, 0].set_ylabel("error, %")
    if below:
        others = table.drop(columns=[minus, reference], errors="ignore").sub(table[minus], axis=0)
        axes[1, 0].axhline(0, color="black", lw=0.8)
        axes[1, 0].set_ylabel(f"minus {minus}'s, points")
        sizes = np.abs(others.to_numpy(float))
        linear = _round_up(float(np.nanquantile(sizes, 0.8)))
        if np.nanmax(sizes) > 1.5 * linear:
            logarithmic_beyond(axes[1, 0], linear, "y")
    domains = errors.drop_duplicates("block").set_index("block")["domain"][table.index]
    axis = axes[-1, 0]
    axis.set_xticks(table.index, [pretty(d) for d in domains], rotation=45, ha="right")
    axis.tick_params(axis="x", labelsize=7)
    figure.legend(loc="outside right center", fontsize=7)
    return figure


def _round_up(value: float) -> float:
    """Return the next of 1, 2, 5, 10, 20 … points."""
    steps = [factor * 10**k for k in range(3) for factor in (1, 2, 5)]
    return next((step for step in steps if step >= value), 1000)


def error_by_constant(changes: pd.DataFrame) -> Figure:
    """Draw what other values of a constant change, a panel for each constant (PALM's figure 3).

    Parameters
    ----------
    changes
        Columns constant, value, difference (of the error, fractions), low, high. Values stand side
        by side in rising order, as in the paper; the one with a difference of exactly 0 and no
        interval is the one that was used.
    """
    names = list(dict.fromkeys(changes["constant"]))
    figure, axes = panels(len(names), len(names), 2.4, sharey=True)
    for axis, name in zip(axes.flat, names, strict=True):
        part = changes[changes["constant"] == name].sort_values("value").reset_index(drop=True)
        axis.axhline(0, color="black", lw=0.8)
        axis.plot(part.index, 100 * part["difference"], color=PALETTE[0], lw=1)
        intervals(axis, part, "difference", part.index, color=PALETTE[0])
        used = part[part["low"].isna()]
        axis.plot(used.index, 100 * used["difference"], "o", ms=8, mfc="none", color=PALETTE[1])
        axis.set_xticks(part.index, [f"{value:g}" for value in part["value"]])
        axis.set_xlabel(pretty(str(name)))
    most = 100 * np.nanmax(np.abs(changes[["difference", "low", "high"]].to_numpy(float)))
    axes[0, 0].set_ylabel("error minus as used, points")
    if most > 5:
        logarithmic_beyond(axes[0, 0], 1, "y")
    return figure


def importance_by_stage(stages: pd.DataFrame) -> Figure:
    """Draw mean learning-rate importance (bars) and share of tensors with none (dots) by stage.

    Parameters
    ----------
    stages
        Columns domain, stage, mean, zeros (fraction); each domain has its panel.
    """
    domains = list(dict.fromkeys(stages["domain"]))
    figure, axes = panels(len(domains), len(domains), 2.4, sharey=True)
    for axis, domain in zip(axes.flat, domains, strict=True):
        part = stages[stages["domain"] == domain]
        axis.bar(part["stage"], part["mean"], color=PALETTE[0], label="mean importance")
        label = "share of tensors that rest"
        axis.plot(part["stage"], part["zeros"], "o", color=PALETTE[1], label=label)
        axis.set_title(pretty(str(domain)))
        axis.tick_params(axis="x", labelsize=7)
        axis.grid(axis="x", visible=False)
    legend_below(figure, axes.flat[0])
    return figure


def selection_by_size(tensors: pd.DataFrame, threshold: float) -> Figure:
    """Draw PALM's score of each tensor over its number of elements, and its threshold.

    Parameters
    ----------
    tensors
        Columns stage, elements, score (L1 norm) and selected (share of batches). A tensor that
        rests in most batches has a hollow mark.
    threshold
        Eta, below which a tensor adapts.
    """
    figure, axis = plt.subplots(figsize=(PAGE * 0.7, 2.8))
    for i, (stage, part) in enumerate(tensors.groupby("stage", sort=False)):
        usual = part["selected"] > 0.5
        marker, color = MARKERS[i % len(MARKERS)], PALETTE[i % len(PALETTE)]
        look = {"marker": marker, "color": color, "ls": "none"}
        axis.plot(part["elements"][usual], part["score"][usual], label=str(stage), **look)
        axis.plot(part["elements"][~usual], part["score"][~usual], mfc="none", **look)
    axis.axhline(threshold, color="black", lw=0.8, ls="--", label="eta")
    axis.set(xscale="log", yscale="log", xlabel="elements of the tensor", ylabel="score, L1 norm")
    figure.legend(loc="outside right center", fontsize=7)
    return figure
