"""The roofline of a benchmark: the rates of the work against those of the machine.

Source: Williams, Waterman and Patterson, Roofline: an insightful visual performance model for
multicore architectures, Communications of the ACM 2009.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from tttlib import ttt
from tttlib.bench.timing import seconds
from tttlib.models import MaskedAutoencoder
from tttlib.plots import PAGE, PALETTE
from tttlib.runtime import flops


def flop(work: Callable[[int, int], object]) -> Callable[[int], float]:
    """Return a function of the number of masks: operations of an image-step with its prediction.

    Only matrix products count. `work` runs one image with a number of masks and of steps: two steps
    minus one step is a step, which grows linearly with the masks, so one and two masks determine
    the rest.
    """

    def count(masks: int, steps: int) -> int:
        return flops.count(lambda: work(masks, steps))

    one, two = (count(masks, 2) - count(masks, 1) for masks in (1, 2))
    return lambda masks: float(one + (masks - 1) * (two - one))


def bytes_moved(model: MaskedAutoencoder) -> float:
    """Return the bytes of its own weights that one image-step moves at least.

    Forward pass, backward pass and prediction read the weights; the update reads and writes
    momentum and weights.
    """
    names = set(ttt.trained_parameters(model, "encoder"))
    weights = sum(p.numel() for name, p in model.named_parameters() if name in names)
    return 7.0 * model.cls_token.element_size() * weights


def matrix_peak(device: torch.device, dtype: torch.dtype) -> float:
    """Return the FLOP/s of the fastest of a few large square matrix products."""
    best = 0.0
    for n in (256, 1024, 2048) if device.type == "cpu" else (1024, 4096, 8192):
        a = torch.randn(n, n, device=device).to(dtype)
        fastest = min(seconds(device, partial(torch.mm, a, a)) for _ in range(4))
        best = max(best, 2 * n**3 / fastest)
        if fastest > 0.02 * (n / 256) ** 3:
            break  # no units for this dtype: the larger ones would take minutes
    return best


def copy_bandwidth(device: torch.device) -> float:
    """Return the bytes/s that a copy beyond the caches reads and writes."""
    a = torch.randn(2**26 if device.type == "cpu" else 2**28, device=device)
    b = torch.empty_like(a)
    return max(8.0 * len(a) / seconds(device, lambda: b.copy_(a)) for _ in range(4))


def roofline(table: pd.DataFrame) -> Figure:
    """Draw the share of the peak over FLOP per byte of own weights, for each row of `bench_ttt`.

    The peak is that of the dtype of the row. No point lies above the roof, min(1, bandwidth *
    intensity / peak), unless weights stay in a cache. Open marks are the plain loop in float32.
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
