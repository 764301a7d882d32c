"""Intervals, projections, separability: the uncertainty and geometry behind tables and figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import silhouette_samples, silhouette_score
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

_BLOCK = 4_000_000  # resampled weights held at once (32 MB)


class Interval(NamedTuple):
    """A mean of `n` values and the bounds of its interval, in the unit of the values."""

    mean: float
    low: float
    high: float
    n: int


class Projection(NamedTuple):
    """Principal components: coordinates [N,k], components [k,D], explained [k], mean [D].

    `explained` is each component's share of the total variance, in [0,1].
    """

    coordinates: NDArray[np.float64]
    components: NDArray[np.float64]
    explained: NDArray[np.float64]
    mean: NDArray[np.float64]


class Separability(NamedTuple):
    """Cross-validated accuracy of a linear classifier and of always guessing the largest class."""

    accuracy: float
    chance: float
    folds: int


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
    """Interval of the mean of `other` - `baseline` (both [N], same order); see `bootstrap`."""
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
            weights *= _draw_counts(r, k, rng)[:, codes]  # [r,M]
        total = weights @ sizes
        # Two factors drawn apart can miss every occupied cell; such a sample has no mean.
        means.append((weights @ sums)[total > 0] / total[total > 0])
    return np.concatenate(means)


def _draw_counts(r: int, k: int, rng: np.random.Generator) -> NDArray:
    """How often each of k clusters occurs in k draws with replacement, r times: [r,k]."""
    draws = rng.integers(0, k, size=(r, k)) + k * np.arange(r)[:, None]
    return np.bincount(draws.ravel(), minlength=r * k).reshape(r, k)


def pca(x: ArrayLike, k: int = 2) -> Projection:
    """The first `k` principal components of the points `x` [N,D] (one fit per figure).

    Signs are fixed: the largest entry of each component is positive. Raises ValueError unless
    0 < k <= min(N, D), for non-finite values, and when all points are equal.

    Source: Pearson 1901; computed as the singular value decomposition of the centred points.
    """
    points = np.asarray(x, dtype=np.float64)
    if points.ndim != 2 or not 0 < k <= min(points.shape):
        raise ValueError(f"{k} components need points [N,D], N and D >= {k}; got {points.shape}")
    if not np.isfinite(points).all():
        raise ValueError("the points to project hold non-finite values")
    mean = points.mean(0)
    _, singular, components = np.linalg.svd(points - mean, full_matrices=False)
    if singular[0] <= np.finfo(np.float64).eps * max(1.0, float(np.abs(mean).max())):
        raise ValueError("all points are equal: there is no direction to project on")
    components = components[:k]  # [k,D]
    largest = np.abs(components).argmax(1)
    components *= np.sign(components[np.arange(k), largest])[:, None]
    explained = singular**2 / (singular**2).sum()
    return Projection((points - mean) @ components.T, components, explained[:k], mean)


def silhouette(x: ArrayLike, labels: ArrayLike) -> float:
    """Mean silhouette in [-1,1] of the points `x` [N,D] grouped by `labels` [N]; 0: groups overlap.

    Source: Rousseeuw, Journal of Computational and Applied Mathematics 20, 1987 (Euclidean).
    """
    codes = _codes(x, labels)
    return float(silhouette_score(np.asarray(x, dtype=np.float64), codes))


def silhouette_values(x: ArrayLike, labels: ArrayLike) -> NDArray[np.float64]:
    """Silhouette [N] of each point: their mean is `silhouette`; bootstrap them for an interval."""
    codes = _codes(x, labels)
    return np.asarray(silhouette_samples(np.asarray(x, dtype=np.float64), codes))


def separability_table(x: ArrayLike, rows: pd.DataFrame, factors: Sequence[str]) -> pd.DataFrame:
    """How far each factor (a column of `rows` [N]) organises the points `x` [N,D].

    Points of one `id` stay in one fold. Columns factor, n, groups, silhouette, accuracy, chance
    (fractions) and folds.
    """
    records = []
    for factor in factors:
        found = separability(x, rows[factor], rows["id"])
        records.append(
            {
                "factor": factor,
                "n": len(rows),
                "groups": rows[factor].nunique(),
                "silhouette": silhouette(x, rows[factor]),
                **found._asdict(),
            }
        )
    return pd.DataFrame(records)


def separability(
    x: ArrayLike,
    labels: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    folds: int = 5,
    seed: int = 0,
) -> Separability:
    """How well a linear classifier tells `labels` [N] from the points `x` [N,D].

    Logistic regression (L2, C = 1) on standardised features, accuracy over stratified folds.
    groups  [N]: points that share one stay in one fold, for instance the corrupted versions of one
            source image, which otherwise stand in both the training and the test fold.

    Uses fewer folds where a class has fewer points (or groups) than `folds`. Raises ValueError for
    fewer than two classes, or when a class has a single point (or group).
    """
    points, codes = np.asarray(x, dtype=np.float64), _codes(x, labels)
    units = np.arange(len(codes)) if groups is None else np.asarray(groups)
    if len(units) != len(codes):
        raise ValueError(f"{len(codes)} points but {len(units)} groups")
    folds = min(folds, *(len(np.unique(units[codes == c])) for c in np.unique(codes)))
    if folds < 2:
        raise ValueError("a class has a single point or group: nothing is left to test on")
    splitter = StratifiedKFold if groups is None else StratifiedGroupKFold
    split = splitter(folds, shuffle=True, random_state=seed)
    right = 0
    for train, test in split.split(points, codes, None if groups is None else units):
        classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000))
        classifier.fit(points[train], codes[train])
        right += int((classifier.predict(points[test]) == codes[test]).sum())
    chance = float(np.bincount(codes).max() / len(codes))
    return Separability(right / len(codes), chance, folds)


def _codes(x: ArrayLike, labels: ArrayLike) -> NDArray[np.int64]:
    """`labels` as int [N]; ValueError when they do not fit `x` or name fewer than two groups."""
    names, codes = np.unique(np.asarray(labels), return_inverse=True)
    if len(codes) != len(np.asarray(x)):
        raise ValueError(f"{len(np.asarray(x))} points but {len(codes)} labels")
    if len(names) < 2:
        raise ValueError(f"need at least two different labels, got only {names}")
    return codes
