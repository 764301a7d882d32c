"""The latent space under all corruptions: one panel per family, the others in grey."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from tttlib import corruptions
from tttlib.plots.latents import component
from tttlib.plots.layout import ASIDE, panels
from tttlib.plots.style import MARKERS, PALETTE, pretty

_ENDS = {"noise": 3, "blur": 7, "weather": 11, "digital": 15}
_STARTS = (0, *_ENDS.values())
FAMILIES = {
    name: corruptions.NAMES[start:end]
    for (name, end), start in zip(_ENDS.items(), _STARTS, strict=False)
}
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
        looks = list(zip(PALETTE, MARKERS, members, strict=False))
        points = {name: table.loc[table["domain"] == name, ["pc1", "pc2"]] for name in members}
        for color, marker, name in looks:
            axis.scatter(
                *points[name].to_numpy().T, s=9, color=color, marker=marker, alpha=0.55,
                linewidths=0,
            )  # fmt: skip
        for color, marker, name in looks:
            axis.scatter(
                *points[name].mean(), s=60, color=color, marker=marker, edgecolors="black",
                linewidths=0.9, label=pretty(name), zorder=3,
            )  # fmt: skip
        axis.set_title(family)
        axis.legend(**ASIDE, fontsize=6.5, handletextpad=0.2)
    for axis in axes[:, 0]:
        axis.set_ylabel(component(2, explained))
    for axis in axes.flat[max(0, n - columns) : n]:
        axis.set_xlabel(component(1, explained))
    return figure
