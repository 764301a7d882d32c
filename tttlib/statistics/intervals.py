"""Bootstrap and Student's t intervals for values that are independent or depend by clusters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

_BLOCK = 4_000_000  # resampled weights held at once (32 MB)


class Interval(NamedTuple):
    """A mean of `n` values and the bounds of its interval, in the unit of the values."""

    mean: float
    low: float
    high: float
    n: int


def bootstrap(
    values: ArrayLike,
    clusters: Sequence[ArrayLike] = (),
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Return the mean of `values` with its percentile bootstrap interval.

    Percentile intervals are too narrow for few clusters (fewer than about 10), and have no width
    when all values are equal.

    Parameters
    ----------
    values
        Finite numbers, shape [N], N > 0.
    clusters
        For each factor an array [N] of labels; values that share a label depend on each other.
        Without a factor the values are independent. With one, whole clusters are drawn. With
        several (crossed or not), each is drawn on its own and the weights multiply: the pigeonhole
        bootstrap, which is mildly conservative.
    level
        Coverage, in (0, 1).
    resamples
        Number of bootstrap samples.
    seed
        Of the random draws.

    Raises
    ------
    ValueError
        For no values, non-finite ones, unequal lengths, or a level or number out of range.

    References
    ----------
    Efron 1979 (bootstrap); Owen, "The pigeonhole bootstrap", Annals of Applied Statistics 1(2),
    2007, section 3.
    """
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or len(x) == 0 or not np.isfinite(x).all():
        raise ValueError(f"a mean needs finite values [N], N > 0; got shape {x.shape}: {x[:5]} …")
    if not 0 < level < 1 or resamples < 1:
        raise ValueError(f"need 0 < level < 1 and resamples > 0, got {level} and {resamples}")
    factors = cluster_codes(len(x), clusters)
    rng = np.random.default_rng(seed)
    means = _resample(x, factors, resamples, rng) if factors else _resample_iid(x, resamples, rng)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(x.mean()), float(low), float(high), len(x))


def paired(
    baseline: ArrayLike, other: ArrayLike, clusters: Sequence[ArrayLike] = (), **options: float
) -> Interval:
    """Return the mean of `other` - `baseline` with its interval; options are `bootstrap`'s.

    Both arrays have shape [N] and the same order. Unequal lengths raise a ValueError.
    """
    a, b = np.asarray(baseline, dtype=np.float64), np.asarray(other, dtype=np.float64)
    if a.shape != b.shape:
        raise ValueError(f"pairs need equal lengths, got {a.shape} and {b.shape}")
    return bootstrap(b - a, clusters, **options)  # type: ignore[arg-type]


def mean_of_few(
    values: ArrayLike, clusters: ArrayLike | None = None, *, level: float = 0.95
) -> Interval:
    """Return the mean of few values with Student's t interval.

    Parameters
    ----------
    values
        Finite numbers, shape [N], N > 0.
    clusters
        Labels [N]: values that share one depend on each other (all layers in one stream), and
        count as one, their mean. None: all are independent.
    level
        Coverage.

    Returns
    -------
    Interval
        With `n` the number of independent values. A single one tells nothing of its own spread: its
        bounds are NaN. Equal values get bounds without width.

    Raises
    ------
    ValueError
        For no values, non-finite ones, or unequal lengths.
    """
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or len(x) == 0 or not np.isfinite(x).all():
        raise ValueError(f"a mean needs finite values [N], N > 0; got shape {x.shape}: {x[:5]} …")
    if clusters is not None:
        (codes,) = cluster_codes(len(x), [clusters])
        x = np.bincount(codes, x) / np.bincount(codes)
    n, mean = len(x), float(x.mean())
    if n == 1:
        return Interval(mean, float("nan"), float("nan"), n)
    half = float(stats.t.ppf((1 + level) / 2, n - 1) * x.std(ddof=1) / np.sqrt(n))
    return Interval(mean, mean - half, mean + half, n)


def difference_of_means(first: Interval, second: Interval) -> Interval:
    """Return the mean of `second` minus that of `first`, which rest on independent values.

    The distances from each mean to its own bounds are joined as root of their sum of squares, so
    intervals that are not symmetric, or wide for a reason of their own, stay so. `n` counts both.

    References
    ----------
    Zou and Donner, Statistics in Medicine 27, 2008, equation 2 (MOVER); Newcombe, Statistics in
    Medicine 17, 1998, method 10, is its case of two proportions.
    """
    change = second.mean - first.mean
    below = np.hypot(second.mean - second.low, first.high - first.mean)
    above = np.hypot(second.high - second.mean, first.mean - first.low)
    bounds = float(change - below), float(change + above)
    return Interval(change, *bounds, first.n + second.n)


def cluster_codes(n: int, clusters: Sequence[ArrayLike]) -> list[NDArray[np.int64]]:
    """Return the labels of each factor as codes 0 … k-1, shape [n].

    A factor of another length raises a ValueError.
    """
    factors = [np.unique(np.asarray(c), return_inverse=True)[1] for c in clusters]
    for factor in factors:
        if factor.shape != (n,):
            raise ValueError(f"{n} values but clusters of shape {factor.shape}")
    return factors


def factors_of(n: int, clusters: Sequence[ArrayLike]) -> list[NDArray[np.int64]]:
    """Return `cluster_codes`, or, without clusters, one factor in which each value stands alone.

    A factor with a single cluster raises a ValueError, since no other can be drawn instead.
    """
    factors = cluster_codes(n, clusters)
    if n and any(factor.max() == 0 for factor in factors):
        raise ValueError("all values lie in one cluster: no other can be drawn instead")
    return factors or [np.arange(n)]


def sample_weights(
    factors: Sequence[NDArray], resamples: int, seed: int | np.random.Generator = 0
) -> Iterator[NDArray[np.float64]]:
    """Yield blocks [r,N] of bootstrap weights, `resamples` rows in all.

    Each factor (codes [N], see `factors_of`) is drawn on its own and the counts multiply: for one
    factor this is the cluster bootstrap, for several the pigeonhole bootstrap (Owen 2007).
    """
    rng = np.random.default_rng(seed)
    sizes = [int(f.max()) + 1 for f in factors]
    block = max(1, _BLOCK // max(len(factors[0]), *sizes))
    for start in range(0, resamples, block):
        r = min(block, resamples - start)
        weights = np.ones((r, len(factors[0])))
        for codes, k in zip(factors, sizes, strict=True):
            draws = rng.integers(0, k, size=(r, k)) + k * np.arange(r)[:, None]
            counts = np.bincount(draws.ravel(), minlength=r * k).reshape(r, k)
            weights *= counts[:, codes]
        yield weights


def spread(replicates: NDArray) -> NDArray[np.float64]:
    """Return the standard error from bootstrap replicates [R,…] by their middle 95 %.

    Quantiles, not the standard deviation: a few wild replicates of a small sample do not count.
    A replicate without a value is NaN; so is the error where more than half of them have none.
    """
    missing = np.isnan(replicates).mean(0) > 0.5
    filled = np.where(missing, 0.0, replicates)
    low, high = np.nanquantile(filled, [0.025, 0.975], axis=0)
    return np.where(missing, np.nan, (high - low) / (2 * stats.norm.ppf(0.975)))


def degrees(factors: Sequence[NDArray], used: int = 1) -> int:
    """Return the degrees of freedom of Student's t: clusters of the smallest factor, less `used`.

    At least 1. Few clusters need t, not the normal distribution: Cameron and Miller, "A
    Practitioner's Guide to Cluster-Robust Inference", Journal of Human Resources 50(2), 2015,
    section VI.D.
    """
    return max(1, min(int(f.max()) + 1 for f in factors) - used)


def student(
    estimate: ArrayLike, error: ArrayLike, df: int, level: float = 0.95
) -> tuple[NDArray, NDArray, NDArray]:
    """Return lower bound, upper bound and two-sided p-value of zero, from a standard error.

    `estimate` and `error` have one shape, which the results share. An error of 0 or NaN tells
    nothing: bounds and p are NaN. A level outside (0, 1) raises a ValueError.
    """
    if not 0 < level < 1:
        raise ValueError(f"need 0 < level < 1, got {level}")
    middle, se = np.asarray(estimate, np.float64), np.asarray(error, np.float64)
    se = np.where(se > 0, se, np.nan)
    half = stats.t.ppf((1 + level) / 2, df) * se
    return middle - half, middle + half, 2 * stats.t.sf(np.abs(middle / se), df)


def _resample_iid(x: NDArray, resamples: int, rng: np.random.Generator) -> NDArray:
    """Return means [R] of samples of N values drawn with replacement.

    How often each distinct value is drawn is multinomial, so right-or-wrong data (two values, or
    three for differences) cost a few draws per sample instead of N.
    """
    distinct, counts = np.unique(x, return_counts=True)
    if len(distinct) > 32:
        return _resample(x, [np.arange(len(x))], resamples, rng)
    drawn = rng.multinomial(len(x), counts / len(x), size=resamples)  # [R,U]
    return drawn @ distinct / len(x)


def _resample(
    x: NDArray, factors: Sequence[NDArray], resamples: int, rng: np.random.Generator
) -> NDArray:
    """Return weighted means [R]; a value's weight is the product of its clusters' draw counts."""
    cells, cell_of = np.unique(np.stack(factors), axis=1, return_inverse=True)  # [F,M], [N]
    cell_of = cell_of.reshape(-1)
    sums = np.bincount(cell_of, weights=x)  # [M]
    sizes = np.bincount(cell_of).astype(np.float64)  # [M]
    means = []
    for weights in sample_weights(list(cells), resamples, rng):  # [r,M]
        total = weights @ sizes
        # Two factors drawn apart can miss every occupied cell; such a sample has no mean.
        means.append((weights @ sums)[total > 0] / total[total > 0])
    return np.concatenate(means)
