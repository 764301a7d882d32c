"""Differences of paired right-or-wrong answers, with intervals that few changes do not narrow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from tttlib.statistics.intervals import bootstrap, cluster_codes, degrees


class PairedAnswers(NamedTuple):
    """Change of accuracy over the same images, and how many answers it rests on.

    Attributes
    ----------
    difference, low, high
        Accuracy after minus before, a fraction, and its interval.
    n
        Number of rows; several rows may show one image.
    mended, broken
        Answers that became right and that became wrong (fractions of answers add up).
    effective_n
        How many independent images would tell as much: `n` over the design effect.
    df
        Degrees of freedom of the interval: the clusters of the smallest factor, less one.
    """

    difference: float
    low: float
    high: float
    n: int
    mended: float
    broken: float
    effective_n: float
    df: int


def paired_answers(
    before: ArrayLike,
    after: ArrayLike,
    clusters: Sequence[ArrayLike] = (),
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> PairedAnswers:
    """Return the change from `before` to `after` with its interval.

    The interval is that of the cluster bootstrap (of the widest factor; the adjusted Wald interval
    has the dependence of all), but never narrower than Bonett and Price's adjusted Wald interval at
    the effective number of independent images, with Student's t for few clusters.
    So images without a change do not look certain, and many rows of few images do not count as many
    images: without any change the effective number is that of the clusters of the smallest factor.

    Parameters
    ----------
    before, after
        Right (1) or wrong (0), shape [N], in the same order; means of several answers may lie
        between.
    clusters
        For each factor labels [N]: rows that share one depend on each other. Without factors all
        rows are independent.
    level
        Coverage of the interval.
    resamples
        Number of bootstrap samples.
    seed
        Of the bootstrap.

    Raises
    ------
    ValueError
        For unequal lengths, no rows, values outside [0, 1], or clusters of another length.

    References
    ----------
    Bonett and Price, Journal of Educational and Behavioral Statistics 37, 2012 (paired
    proportions); Kish, Survey Sampling, 1965, section 8.2 (design effect).
    """
    a, b = np.asarray(before, np.float64), np.asarray(after, np.float64)
    if a.shape != b.shape or a.ndim != 1 or not len(a):
        raise ValueError(f"pairs need two arrays [N], N > 0, of equal lengths, not {a.shape} and "
                         f"{b.shape}")  # fmt: skip
    if not ((a >= 0) & (a <= 1) & (b >= 0) & (b <= 1)).all():
        raise ValueError("answers must be right (1), wrong (0) or between; some are not")
    d, n = b - a, len(a)
    factors = cluster_codes(n, clusters) or [np.arange(n)]
    mended, broken = float(d.clip(0).sum()), float(-d.clip(None, 0).sum())
    effective, df = n / design_effect(d, factors), degrees(factors)
    share = effective / n
    floor = bonett_price(mended * share, broken * share, effective, df=df, level=level)
    of_factors = [[labels] for labels in clusters] or [[]]
    drawn = [bootstrap(d, f, level=level, resamples=resamples, seed=seed) for f in of_factors]
    low = min(float(floor[0]), *(one.low for one in drawn))
    high = max(float(floor[1]), *(one.high for one in drawn))
    return PairedAnswers(float(d.mean()), low, high, n, mended, broken, effective, df)


def bonett_price(
    mended: ArrayLike, broken: ArrayLike, n: ArrayLike, *, df: float = np.inf, level: float = 0.95
) -> tuple[NDArray, NDArray]:
    """Return the bounds of Bonett and Price's interval of (mended - broken) / n.

    Two imagined images, one mended and one broken, are added, so that no change at all leaves
    2.8 / (n + 2) open on either side at 95 %. Arguments broadcast; counts need not be whole.
    `df` are the degrees of freedom of Student's t (infinite: the normal distribution).
    """
    total = np.asarray(n, np.float64) + 2
    up, down = (np.asarray(x, np.float64) + 1 for x in (mended, broken))
    up, down = up / total, down / total
    centre = up - down
    half = stats.t.ppf((1 + level) / 2, df) * np.sqrt((up + down - centre**2) / total)
    return np.maximum(-1, centre - half), np.minimum(1, centre + half)


def design_effect(differences: ArrayLike, factors: Sequence[NDArray]) -> float:
    """Return by how much clusters enlarge the variance of the mean of `differences` [N].

    What each factor (codes [N]) adds to the variance of independent values is summed over the
    factors. The estimate is mixed with complete dependence, see `with_doubt`.
    """
    d = np.asarray(differences, np.float64)
    n, spread = len(d), d - d.mean()
    variance = float((spread**2).mean()) / n
    sizes = [np.bincount(codes) for codes in factors]
    largest = n / min(len(size) for size in sizes)  # rows of a cluster of the smallest factor
    estimate = 1.0
    if variance <= 1e-15 or min(len(size) for size in sizes) < 2:
        return largest
    for codes, size in zip(factors, sizes, strict=True):
        if len(size) < n:
            clustered = float((np.bincount(codes, spread) ** 2).sum()) / n**2
            estimate += max(0.0, clustered * len(size) / (len(size) - 1) / variance - 1)
    return float(with_doubt(estimate, np.abs(d).sum(), largest))


def with_doubt(estimate: ArrayLike, changes: ArrayLike, largest: ArrayLike) -> NDArray[np.float64]:
    """Return a design effect that admits that few changed answers cannot show dependence.

    The two imagined answers of Bonett and Price count as completely dependent (design effect
    `largest`), those among `changes` that are independent (changes / estimate) as the `estimate`
    says. Without changes this is `largest`, with many it is the estimate. Arguments broadcast.
    """
    estimate, largest = np.asarray(estimate, np.float64), np.asarray(largest, np.float64)
    independent = np.asarray(changes, np.float64) / estimate
    return np.maximum(1.0, (independent * estimate + 2 * largest) / (independent + 2))
