"""Simulated coverage and false verdicts of the interval of `statistics.paired_answers`.

`python tests/statistics/interval_simulation.py` writes the table into tttlib/statistics/README.md.
What is simulated is the adjusted Wald interval alone: the interval that is used contains it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tttlib.statistics.paired_answers import bonett_price, with_doubt
from tttlib.tables import verdict_tables

PAGE = Path(__file__).resolve().parents[2] / "tttlib" / "statistics" / "README.md"
MARGIN = 0.01
SIZES = [(20, 5), (20, 20), (100, 5), (100, 20), (100, 100), (500, 5), (500, 20), (500, 100),
         (2000, 5), (2000, 20), (2000, 100), (2000, 400)]  # fmt: skip
DEPENDENCE = (0.0, 0.05, 0.2, 1.0)  # correlation of the answers of a cluster
FLIPS = (0.0, 0.01, 0.03, 0.1, 0.3)
EFFECTS = (0.0, 0.01, 0.02, 0.05, 0.1)


def drawn(
    rng: np.random.Generator, runs: int, n: int, clusters: int, flips: float, effect: float,
    dependence: float,
) -> tuple[NDArray, NDArray]:  # fmt: skip
    """Answers mended and broken in each cluster, both [runs,clusters].

    A cluster has its own shares of mended, broken and unchanged answers, drawn from a Dirichlet
    distribution around the true ones; at a dependence of 1 all answers of a cluster are alike.
    """
    size = n // clusters
    share = np.array([(flips + effect) / 2, (flips - effect) / 2, 1 - flips])
    if dependence == 0:
        counts = rng.multinomial(size, share, size=(runs, clusters))
    elif dependence == 1:
        counts = size * rng.multinomial(1, share, size=(runs, clusters))
    else:
        weights = share.clip(0) * (1 - dependence) / dependence
        gamma = rng.standard_gamma(np.broadcast_to(weights, (runs, clusters, 3)))
        total = gamma.sum(-1, keepdims=True)
        counts = rng.multinomial(
            size, np.where(total > 0, gamma / np.maximum(total, 1e-300), share)
        )
    return counts[..., 0].astype(float), counts[..., 1].astype(float)


def intervals(mended: NDArray, broken: NDArray, size: int) -> tuple[NDArray, NDArray, NDArray]:
    """Bounds and effective number [runs] of many samples at once, from counts [runs,clusters]."""
    clusters = mended.shape[1]
    n = size * clusters
    changes, change = (mended + broken).sum(1), mended - broken
    mean = change.sum(1) / n
    variance = (changes / n - mean**2).clip(0) / n
    clustered = ((change - size * mean[:, None]) ** 2).sum(1) * clusters / (clusters - 1) / n**2
    alike = variance <= 1e-15
    estimate = np.where(alike, 1.0, clustered / np.where(alike, 1.0, variance)).clip(1)
    estimate = estimate if size > 1 else np.ones_like(estimate)
    effect = np.where(alike, size, with_doubt(estimate, changes, float(size)))
    effective = n / effect
    low, high = bonett_price(
        mended.sum(1) / effect, broken.sum(1) / effect, effective, df=clusters - 1
    )
    return low, high, effective


def simulated(runs: int, cells: list[tuple] | None = None, seed: int = 0) -> pd.DataFrame:
    """Shares of covered truths and of false verdicts, one row per cell of the grid."""
    rng, rows = np.random.default_rng(seed), []
    for n, clusters, dependence, flips, effect in cells or grid():
        counts = drawn(rng, runs, n, clusters, flips, effect, dependence)
        low, high, _ = intervals(*counts, n // clusters)
        inside = (low > -MARGIN) & (high < MARGIN)
        rows.append(
            {
                "n": n,
                "clusters": clusters,
                "dependence": dependence,
                "flip rate": flips,
                "effect": effect,
                "coverage": ((low <= effect) & (effect <= high)).mean(),
                "false supported": (low > 0).mean() if effect == 0 else np.nan,
                "false negligible": inside.mean() if effect >= MARGIN else np.nan,
                "half width": (high - low).mean() / 2,
            }
        )
    return pd.DataFrame(rows)


def grid() -> list[tuple]:
    return [
        (n, clusters, dependence, flips, effect)
        for n, clusters in SIZES
        for dependence in (DEPENDENCE if n > clusters else (0.0,))
        for flips in FLIPS
        for effect in EFFECTS
        if effect <= flips
    ]


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """The worst cell of each n and number of clusters, in %."""
    grouped = table.groupby(["n", "clusters"], sort=False)
    worst = {
        "lowest coverage": grouped["coverage"].min(),
        "mean coverage": grouped["coverage"].mean(),
        "false supported, at most": grouped["false supported"].max(),
        "false negligible, at most": grouped["false negligible"].max(),
    }
    shown = (100 * pd.DataFrame(worst)).map("{:.1f}".format)
    return shown.reset_index()


if __name__ == "__main__":
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(
        verdict_tables.filled(page, "coverage", summary(simulated(10_000))), encoding="utf-8"
    )
