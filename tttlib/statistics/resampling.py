"""How often each value is drawn in a bootstrap sample, for independent and clustered values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

_BLOCK = 4_000_000  # weights held at once (32 MB)


def draw_counts(r: int, k: int, rng: np.random.Generator) -> NDArray:
    """How often each of k clusters occurs in k draws with replacement, r times: [r,k]."""
    draws = rng.integers(0, k, size=(r, k)) + k * np.arange(r)[:, None]
    return np.bincount(draws.ravel(), minlength=r * k).reshape(r, k)


def factors_of(n: int, clusters: Sequence[ArrayLike]) -> list[NDArray[np.int64]]:
    """Cluster labels as codes 0 … k-1, one array [N] per factor; each value its own without any.

    Raises ValueError for a factor of another length, or with a single cluster.
    """
    factors = [np.unique(np.asarray(c), return_inverse=True)[1] for c in clusters]
    for factor in factors:
        if factor.shape != (n,):
            raise ValueError(f"{n} values but clusters of shape {factor.shape}")
        if n and factor.max() == 0:
            raise ValueError("all values lie in one cluster: no other can be drawn instead")
    return factors or [np.arange(n)]


def sample_weights(
    factors: Sequence[NDArray], resamples: int, seed: int = 0
) -> Iterator[NDArray[np.float64]]:
    """Blocks [r,N] of bootstrap weights, `resamples` rows in all.

    Each factor is drawn on its own and the counts multiply: for one factor the cluster bootstrap,
    for several the pigeonhole bootstrap.

    Source: Owen, "The pigeonhole bootstrap", Annals of Applied Statistics 1(2), 2007, section 3.
    """
    rng = np.random.default_rng(seed)
    sizes = [int(f.max()) + 1 for f in factors]
    block = max(1, _BLOCK // max(len(factors[0]), *sizes))
    for start in range(0, resamples, block):
        r = min(block, resamples - start)
        weights = np.ones((r, len(factors[0])))
        for codes, k in zip(factors, sizes, strict=True):
            weights *= draw_counts(r, k, rng)[:, codes]
        yield weights


def spread(replicates: NDArray) -> NDArray[np.float64]:
    """Standard error from bootstrap replicates [R,…] (NaN: no value) by their middle 95 %.

    The quantiles, not the standard deviation: a few wild replicates of a small sample do not count.
    NaN when more than half of the replicates have no value.
    """
    none = np.isnan(replicates).mean(0) > 0.5
    filled = np.where(none, 0.0, replicates)
    low, high = np.nanquantile(filled, [0.025, 0.975], axis=0)
    return np.where(none, np.nan, (high - low) / (2 * stats.norm.ppf(0.975)))


def degrees(factors: Sequence[NDArray], used: int = 1) -> int:
    """Degrees of freedom of Student's t: clusters of the smallest factor, less `used`; 1 or more.

    factors  codes [N], as `factors_of` gives them

    Source: Cameron and Miller, "A Practitioner's Guide to Cluster-Robust Inference", Journal of
    Human Resources 50(2), 2015, section VI.D: few clusters need t, not the normal distribution.
    """
    return max(1, min(int(f.max()) + 1 for f in factors) - used)


def student(
    estimate: ArrayLike, error: ArrayLike, df: int, level: float = 0.95
) -> tuple[NDArray, NDArray, NDArray]:
    """Bounds of the interval and two-sided p-value of zero, from a standard error.

    estimate, error  of any shape, the same; bounds and p have it too
    An error of 0 or NaN tells nothing: bounds and p are NaN. Raises ValueError unless
    0 < level < 1.
    """
    if not 0 < level < 1:
        raise ValueError(f"need 0 < level < 1, got {level}")
    middle, se = np.asarray(estimate, np.float64), np.asarray(error, np.float64)
    se = np.where(se > 0, se, np.nan)
    half = stats.t.ppf((1 + level) / 2, df) * se
    return middle - half, middle + half, 2 * stats.t.sf(np.abs(middle / se), df)
