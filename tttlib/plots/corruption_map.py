"""The latent space under all corruptions: one panel per family, the others in grey."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from tttlib import corruptions
from tttlib.plots.style import PAGE, PALETTE, pretty

_ENDS = {"noise": 3, "blur": 7, "weather": 11, "digital": 15}
_STARTS = (0, *_ENDS.values())
FAMILIES = {
    name: corruptions.NAMES[start:end]
    for (name, end), start in zip(_ENDS.items(), _STARTS, strict=False)
}
"""The four families of ImageNet-C (Hendrycks and Dietterich, ICLR 2019, figure 1)."""


def corruption_map(table: pd.DataFrame, explained: Sequence[float]) -> Figure:
    """Points under corruptions on two components, one panel per family on shared axes.

    table      columns pc1, pc2, domain; a domain of no family (clean, the extra ones) is "other"
    explained  shares of variance of the two components
    Large marks are the means of the corruptions.
    """
    present = list(dict.fromkeys(table["domain"]))
    families = {k: [d for d in v if d in present] for k, v in FAMILIES.items()}
    known = {name for members in FAMILIES.values() for name in members}
    families["other"] = [d for d in present if d not in known]
    families = {name: members for name, members in families.items() if members}
    n = len(families)
    columns = n if n < 4 else 2
    rows = -(-n // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(PAGE, 2.5 * rows), sharex=True, sharey=True, squeeze=False
    )
    for axis, (family, members) in zip(axes.flat, families.items(), strict=False):
        others = table[~table["domain"].isin(members)]
        axis.scatter(others["pc1"], others["pc2"], s=3, color="#cfcfcf", linewidths=0)
        for color, marker, domain in zip(PALETTE, "osD^vPX", members, strict=False):
            mine = table[table["domain"] == domain]
            axis.scatter(
                mine["pc1"], mine["pc2"], s=9, color=color, marker=marker, alpha=0.55, linewidths=0
            )
        for color, marker, domain in zip(PALETTE, "osD^vPX", members, strict=False):
            middle = table[table["domain"] == domain][["pc1", "pc2"]].mean()
            axis.scatter(
                *middle, s=60, color=color, marker=marker, edgecolors="black", linewidths=0.9,
                label=pretty(domain), zorder=3,
            )  # fmt: skip
        axis.set_title(family)
        axis.legend(fontsize=6.5, loc="center left", bbox_to_anchor=(1.0, 0.5), handletextpad=0.2)
    for axis in axes.flat[n:]:
        axis.set_visible(False)
    for axis in axes[:, 0]:
        axis.set_ylabel(f"PC 2 ({100 * explained[1]:.0f} %)")
    for axis in axes.flat[max(0, n - columns) : n]:
        axis.set_xlabel(f"PC 1 ({100 * explained[0]:.0f} %)")
    return figure
