"""The roofline of a benchmark: rates of the work against those of the machine.

Williams, Waterman and Patterson, Roofline: an insightful visual performance model for multicore
architectures, Communications of the ACM 2009.
"""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from tttlib.plots import PAGE, PALETTE


def roofline(table: pd.DataFrame) -> Figure:
    """Share of the peak over FLOP per byte of own weights, a point for each row of `bench_ttt`.

    The peak is that of the row's dtype. No point lies above the roof, min(1, bandwidth * intensity
    / peak), unless weights stay in a cache. Open marks: the plain loop, in float32.
    """
    figure, axis = plt.subplots(figsize=(PAGE * 0.62, 3.0))
    intensity = table["GFLOP"] * 1e9 / (table["MB moved"] * 1e6)
    x = np.geomspace(intensity.min() / 3, intensity.max() * 3, 100)
    for dtype, part in table.groupby("dtype", sort=False):
        peak, bandwidth = part["peak"].iloc[0], part["bandwidth"].iloc[0]
        roof = np.minimum(1, bandwidth * x / peak)
        axis.plot(x, roof, color="black", linewidth=0.9, zorder=1)
        axis.annotate(f"peak of {dtype}", (x[-1], roof[-1]), ha="right", va="bottom")
    for i, (network, part) in enumerate(table.groupby("network", sort=False)):
        at, color = intensity[part.index], PALETTE[i]
        axis.plot(at, part["share of peak"], "o", ms=4, color=color, label=network)
        axis.plot(at, part["plain share of peak"], "o", ms=4, color=color, fillstyle="none")
        for here, y, masks in zip(at, part["share of peak"], part["masks"], strict=True):
            axis.annotate(masks, (here, y), xytext=(0, 4), textcoords="offset points", ha="center")
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlabel("FLOP per byte of an image's own weights moved (numbers: masks)")
    axis.set_ylabel("share of the peak (open: plain loop)")
    axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure
