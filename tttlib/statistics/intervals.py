"""Bootstrap intervals of means and of paired differences, for independent and clustered values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tttlib.statistics.resampling import draw_counts

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
    """Percentile bootstrap interval of the mean of `values` [N].

    clusters  for each factor an array [N] of labels; values that share a label are dependent.
              None: the values are independent. One: whole clusters are drawn. Several (crossed or
              not): each factor is drawn on its own and the weights multiply, the pigeonhole
              bootstrap, which is mildly conservative.
    level     coverage in (0,1)

    Percentile intervals are too narrow for few clusters (fewer than about 10), and have no width
    when all values are equal. Raises ValueError for no values, non-finite ones or unequal lengths.

    Source: Efron 1979 (bootstrap); Owen, "The pigeonhole bootstrap", Annals of Applied Statistics
    1(2), 2007, section 3.
    """
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or len(x) == 0 or not np.isfinite(x).all():
        raise ValueError(f"a mean needs finite values [N], N > 0; got shape {x.shape}: {x[:5]} …")
    if not 0 < level < 1 or resamples < 1:
        raise ValueError(f"need 0 < level < 1 and resamples > 0, got {level} and {resamples}")
    factors = [np.unique(np.asarray(c), return_inverse=True)[1] for c in clusters]
    for factor in factors:
        if factor.shape != x.shape:
            raise ValueError(f"{len(x)} values but clusters of shape {factor.shape}")
    rng = np.random.default_rng(seed)
    means = _resample(x, factors, resamples, rng) if factors else _resample_iid(x, resamples, rng)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(x.mean()), float(low), float(high), len(x))


def paired(
    baseline: ArrayLike, other: ArrayLike, clusters: Sequence[ArrayLike] = (), **options: float
) -> Interval:
    """Interval of the mean of `other` - `baseline` (both [N], same order); see `bootstrap`.

    Raises ValueError for unequal lengths, and where `bootstrap` does.
    """
    a, b = np.asarray(baseline, dtype=np.float64), np.asarray(other, dtype=np.float64)
    if a.shape != b.shape:
        raise ValueError(f"pairs need equal lengths, got {a.shape} and {b.shape}")
    return bootstrap(b - a, clusters, **options)  # type: ignore[arg-type]


def _resample_iid(x: NDArray, resamples: int, rng: np.random.Generator) -> NDArray:
    """Means [R] of samples of N values drawn with replacement.

    How often each distinct value is drawn is multinomial, so right-or-wrong data (two values, or
    three for differences) cost a few draws per sample instead of N.
    """
    distinct, counts = np.unique(x, return_counts=True)
    if len(distinct) > 32:
        return _resample(x, [np.arange(len(x))], resamples, rng)
    drawn = rng.multinomial(len(x), counts / len(x), size=resamples)  # [R,U]
    return drawn @ distinct / len(x)


def _resample(
    x: NDArray, factors: list[NDArray], resamples: int, rng: np.random.Generator
) -> NDArray:
    """Weighted means [R]; the weight of a value is the product of its clusters' draw counts."""
    cells, cell_of = np.unique(np.stack(factors), axis=1, return_inverse=True)  # [F,M], [N]
    cell_of = cell_of.reshape(-1)
    sums = np.bincount(cell_of, weights=x)  # [M]
    sizes = np.bincount(cell_of).astype(np.float64)  # [M]
    sizes_of_factors = [int(f.max()) + 1 for f in factors]
    block = max(1, _BLOCK // max(len(sums), *sizes_of_factors))
    means = []
    for start in range(0, resamples, block):
        r = min(block, resamples - start)
        weights = np.ones((r, len(sums)))
        for codes, k in zip(cells, sizes_of_factors, strict=True):
            weights *= draw_counts(r, k, rng)[:, codes]  # [r,M]
        total = weights @ sizes
        # Two factors drawn apart can miss every occupied cell; such a sample has no mean.
        means.append((weights @ sums)[total > 0] / total[total > 0])
    return np.concatenate(means)
