"""Errors of adaptation methods along a stream, and what PALM does to each stage."""

from __future__ import annotations

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from tttlib.plots.style import PAGE, PALETTE, pretty

MARKS = "osD^vPX*<>hd"


def error_by_block(errors: pd.DataFrame, *, reference: str = "source") -> Figure:
    """Error along the stream, one line per method, the reference broad and grey.

    errors  columns method, block, domain, error (fractions)
    """
    figure, axis = plt.subplots(figsize=(PAGE, 3.4))
    blocks = errors.drop_duplicates("block").sort_values("block")
    for i, (name, part) in enumerate(errors.groupby("method", sort=False)):
        part = part.sort_values("block")
        look = {"color": PALETTE[i % len(PALETTE)], "lw": 1.2, "marker": MARKS[i], "ms": 4}
        if name == reference:
            look = {"color": "0.75", "lw": 4}
        axis.plot(part["block"], 100 * part["error"], label=str(name), **look)
    axis.set_xticks(
        blocks["block"].to_list(), [pretty(d) for d in blocks["domain"]], rotation=45, ha="right"
    )
    axis.tick_params(axis="x", labelsize=7)
    axis.set_ylabel("error, %")
    axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=7)
    return figure


def importance_by_stage(stages: pd.DataFrame) -> Figure:
    """Mean learning-rate importance (bars) and share of tensors with none (dots) by stage.

    stages  columns domain, stage, mean, zeros (fraction); a panel per domain
    """
    domains = list(dict.fromkeys(stages["domain"]))
    figure, axes = plt.subplots(1, len(domains), figsize=(PAGE, 2.4), sharey=True, squeeze=False)
    for axis, domain in zip(axes.flat, domains, strict=True):
        part = stages[stages["domain"] == domain]
        axis.bar(part["stage"], part["mean"], color=PALETTE[0], label="mean importance")
        axis.plot(
            part["stage"], part["zeros"], "o", color=PALETTE[1], label="share of tensors that rest"
        )
        axis.set_title(pretty(str(domain)))
        axis.tick_params(axis="x", labelsize=7)
        axis.grid(axis="x", visible=False)
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2)
    return figure
