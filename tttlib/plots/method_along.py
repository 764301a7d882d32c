"""One method along one stream: its error, how much of the network it adapts, and how fast."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tttlib.plots.style import MARKERS, PAGE, PALETTE, Look, pretty

_SHARES = {"share_moving": "moved", "share_selected": "selected"}
_RATES = ("lr", "rates")  # diagnostics with one number for each tensor or layer


def method_along_stream(
    rows: pd.DataFrame,
    diagnostics: pd.DataFrame,
    method: str,
    domain: str,
    references: Sequence[str] = ("source", "bn1"),
) -> Figure:
    """Draw a method's error along a stream, the share it adapts, and its rates by layer.

    Parameters
    ----------
    rows
        Of several methods along one stream, with position, domain and error (fractions).
    diagnostics
        What `evaluate.adaptation` told of this method along it: block, domain, name, tensor, value.
    method
        The one to draw; if it has no rows, the figure says so.
    domain
        Its arrivals are shaded, and the rates under it stand beside those of the whole stream.
    references
        Methods to draw with it, where they have rows.
    """
    figure, axes = plt.subplot_mosaic(
        [["error", "rates"], ["share", "rates"]], figsize=(PAGE, 3.7), width_ratios=(1.5, 1),
        height_ratios=(1.6, 1), layout="constrained",
    )  # fmt: skip
    axes["share"].sharex(axes["error"])
    first = rows[rows["method"] == rows["method"].iloc[0]].sort_values("position")
    _errors(axes["error"], rows, method, domain, references)
    _shade(axes["error"], first, domain)
    absent = "" if method in set(rows["method"]) else f"{method} did not run on this stream"
    nothing = absent or f"{method} chooses no tensors by batch"
    _shares(axes["share"], first, diagnostics, nothing)
    _rates(axes["rates"], diagnostics, domain, absent or f"{method} has no rates by layer")
    return figure


def running_error(rows: pd.DataFrame, window: int) -> pd.Series:
    """Return the mean error in % of `window` arrivals around each position of one method's rows."""
    errors = 100 * rows.set_index("position")["error"].sort_index()
    return errors.rolling(window, center=True, min_periods=(window + 1) // 2).mean()


def _errors(
    axis: Axes, rows: pd.DataFrame, method: str, domain: str, references: Sequence[str]
) -> None:
    looks: dict[str, Look] = {name: {"color": "0.75", "lw": 3} for name in references[:1]}
    looks |= {name: {"color": PALETTE[1], "lw": 1} for name in references[1:]}
    looks = {**looks, method: {**looks.get(method, {}), "color": PALETTE[0], "lw": 1.4}}
    of = {name: rows[rows["method"] == name] for name in looks if name in set(rows["method"])}
    window = max(20, len(next(iter(of.values()))) // 30)
    told = []
    for name, mine in of.items():
        curve, here = running_error(mine, window), mine[mine["domain"] == domain]["error"]
        axis.plot(curve.index, curve, label=name, **looks[name])
        told.append(f"{name} {100 * here.mean():.1f}" if len(here) else name)
    axis.set_title(f"{pretty(domain)}, error in %: {', '.join(told)}", fontsize=7)
    axis.set(ylabel=f"error of {window} images, %", ylim=(0, 100))
    axis.legend(fontsize=6, ncols=3, loc="upper right")
    axis.tick_params(labelsize=7, labelbottom=False)
    axis.yaxis.label.set_fontsize(7)


def _shade(axis: Axes, arrivals: pd.DataFrame, domain: str) -> None:
    """Shade where a domain arrives, one span for each run of it."""
    here = arrivals["domain"].eq(domain)
    for _, run in arrivals[here].groupby((here != here.shift()).cumsum()):
        begin, end = run["position"].min() - 0.5, run["position"].max() + 0.5
        axis.axvspan(begin, end, color=PALETTE[8], alpha=0.3, lw=0)


def _shares(axis: Axes, arrivals: pd.DataFrame, diagnostics: pd.DataFrame, nothing: str) -> None:
    axis.set(ylim=(0, 1), xlabel="images seen", ylabel="share adapted")
    axis.tick_params(labelsize=7)
    for words in (axis.xaxis.label, axis.yaxis.label):
        words.set_fontsize(7)
    shares = diagnostics[diagnostics["name"].isin(_SHARES)]
    if shares.empty:
        _say(axis, nothing)
        return
    spans = arrivals.groupby("block")["position"].agg(["min", "max"])
    for color, (name, label) in zip(PALETTE[2:4], _SHARES.items(), strict=True):
        value = shares[shares["name"] == name].groupby("block")["value"].mean()
        here = spans.loc[value.index]
        axis.hlines(value, here["min"] - 0.5, here["max"] + 0.5, color=color, lw=2, label=label)
    axis.legend(fontsize=6, ncols=2, loc="upper right")


def _rates(axis: Axes, diagnostics: pd.DataFrame, domain: str, nothing: str) -> None:
    axis.set_title("learning rate by layer", fontsize=7)
    axis.tick_params(labelsize=7)
    axis.grid(axis="x", visible=False)
    rates = diagnostics[diagnostics["name"].isin(_RATES) & (diagnostics["tensor"] != "")]
    if rates.empty:
        axis.set(xticks=[], yticks=[])
        _say(axis, nothing)
        return
    layers = list(dict.fromkeys(rates["tensor"]))
    parts = {"whole stream": rates, pretty(domain): rates[rates["domain"] == domain]}
    for k, (label, part) in enumerate(parts.items()):
        values = part.groupby("tensor")["value"].mean().reindex(layers)
        look: Look = {"color": ("0.6", PALETTE[0])[k], "marker": MARKERS[k], "ms": (5, 3.5)[k]}
        if len(part):
            axis.plot(np.arange(len(layers)), values, ls="none", label=label, clip_on=False, **look)
    stages = pd.Series(range(len(layers)), [name.split(".")[0] for name in layers])
    middles = stages.groupby(level=0, sort=False).mean()
    axis.set_xticks(middles, middles.index, rotation=45, ha="right")
    axis.set_ylim(bottom=0)
    axis.ticklabel_format(axis="y", style="sci", scilimits=(-2, 2))
    axis.yaxis.offsetText.set_fontsize(7)
    axis.legend(fontsize=6)


def _say(axis: Axes, text: str) -> None:
    look: Look = {"ha": "center", "va": "center", "fontsize": 7, "color": "0.4"}
    axis.text(0.5, 0.5, text, transform=axis.transAxes, **look)
