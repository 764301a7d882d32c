"""The latent space under all corruptions: one panel per family, the others in grey."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from tttlib import corruptions
from tttlib.plots.latents import component
from tttlib.plots.layout import ASIDE, panels
from tttlib.plots.style import MARKERS, PALETTE, Look, pretty

_PLACES = {"noise": (0, 3), "blur": (3, 7), "weather": (7, 11), "digital": (11, 15)}
FAMILIES = {name: corruptions.NAMES[start:end] for name, (start, end) in _PLACES.items()}
"""The four families of ImageNet-C (Hendrycks and Dietterich, ICLR 2019, figure 1)."""


def corruption_map(table: pd.DataFrame, explained: Sequence[float]) -> Figure:
    """Draw points under corruptions on two components, one panel per family on shared axes.

    Large marks are the means of the corruptions.

    Parameters
    ----------
    table
        Columns pc1, pc2, domain; a domain of no family (clean, the extra ones) is "other".
    explained
        Shares of variance of the two components.
    """
    present = list(dict.fromkeys(table["domain"]))
    families = {k: [d for d in v if d in present] for k, v in FAMILIES.items()}
    known = {name for members in FAMILIES.values() for name in members}
    families["other"] = [d for d in present if d not in known]
    families = {name: members for name, members in families.items() if members}
    n = len(families)
    columns = n if n < 4 else 2
    figure, axes = panels(n, columns, 2.5, sharex=True, sharey=True)
    for axis, (family, members) in zip(axes.flat, families.items(), strict=False):
        others = table[~table["domain"].isin(members)]
        axis.scatter(others["pc1"], others["pc2"], s=3, color="#cfcfcf", linewidths=0)
        points = {name: table.loc[table["domain"] == name, ["pc1", "pc2"]] for name in members}
        looks: list[Look] = [
            {"color": c, "marker": m} for c, m in zip(PALETTE, MARKERS, strict=False)
        ]
        for look, part in zip(looks, points.values(), strict=False):
            axis.scatter(*part.to_numpy().T, s=9, alpha=0.55, linewidths=0, **look)
        for look, (name, part) in zip(looks, points.items(), strict=False):
            mean: Look = {"s": 60, "edgecolors": "black", "linewidths": 0.9, "zorder": 3, **look}
            axis.scatter(*part.mean(), label=pretty(name), **mean)
        axis.set_title(family)
        axis.legend(**ASIDE, fontsize=6.5, handletextpad=0.2)
    for axis in axes[:, 0]:
        axis.set_ylabel(component(2, explained))
    for axis in axes.flat[max(0, n - columns) : n]:
        axis.set_xlabel(component(1, explained))
    return figure
