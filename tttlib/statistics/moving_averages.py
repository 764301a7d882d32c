"""Moving averages of right and wrong answers, and whether they fluctuate more than chance."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats


class Fluctuation(NamedTuple):
    """Variance of a moving average against the same values in random order.

    Attributes
    ----------
    observed
        Variance over positions.
    expected
        Mean variance over permutations: what chance alone gives.
    ratio
        observed / expected.
    low, high
        `observed` over the 97.5 % and the 2.5 % quantile of the permutations. Both above 1: the
        variance is larger than 97.5 % of chance's.
    p
        Share of permutations (and the data themselves) with at least the observed variance.
    """

    observed: float
    expected: float
    ratio: float
    low: float
    high: float
    p: float


def moving_average(values: ArrayLike, window: int) -> NDArray[np.float64]:
    """Return the mean of each full `window` of `values` [N], shape [N - window + 1].

    A window outside 1 … N raises a ValueError.
    """
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or not 1 <= window <= len(x):
        raise ValueError(f"a window of {window} does not fit values of shape {x.shape}")
    sums = np.cumsum(np.concatenate([[0.0], x]))
    return (sums[window:] - sums[:-window]) / window


def longest_window(
    n: int, margin: float, *, streams: int, power: float = 0.8, level: float = 0.95
) -> int:
    """Return the longest window whose `fluctuation` ratio `n` values tell within `margin` of 1.

    The ratio of a window w is 1 plus twice the sum over lags k < w of (1 - k/w) times the
    autocorrelation at lag k. Without fluctuation that has the variance 1 / n, so the ratio has the
    variance 2 (w - 1) (2 w - 1) / (3 w n). The result is 2 or more.

    Parameters
    ----------
    n
        Number of values, of all independent streams together.
    margin
        Of the ratio, above 0.
    streams
        How many streams give a ratio each, 2 or more: the interval of their mean is Student's t.
    power
        Probability that the interval lies within the margin when nothing fluctuates.
    level
        Coverage of the interval.

    Raises
    ------
    ValueError
        For a margin, a number of streams, a power or a level out of range.

    References
    ----------
    Lo and MacKinlay, Review of Financial Studies 1(1), 1988 (variance ratios of overlapping sums).
    """
    if not margin > 0 or streams < 2 or not 0 < power < 1 or not 0 < level < 1:
        raise ValueError(
            "need margin > 0, streams >= 2, power and level between 0 and 1, not "
            f"{margin}, {streams}, {power} and {level}"
        )
    errors = stats.t.ppf((1 + level) / 2, streams - 1) + stats.norm.ppf((1 + power) / 2)
    most, window = n * (margin / errors) ** 2, 2
    while 2 * window * (2 * window + 1) / (3 * (window + 1)) <= most:
        window += 1
    return window


def fluctuation(
    values: ArrayLike, window: int, *, permutations: int = 2000, seed: int = 0
) -> Fluctuation:
    """Test whether a moving average varies more along the stream than in random order.

    For right or wrong answers of independent images of one difficulty the order is exchangeable and
    the variance is binomial noise; a drift of the model, or stretches of easier images, raise it.
    To tell these apart, test the difference to a model that does not adapt.

    Parameters
    ----------
    values
        Shape [N], in the order of the stream, N at least twice the window.
    window
        Length of the moving average.
    permutations
        Number of random orders.
    seed
        Of the random orders.

    Raises
    ------
    ValueError
        When all values are equal, or fewer than two windows fit.

    References
    ----------
    Good, "Permutation, Parametric and Bootstrap Tests", 2005, chapter 3.
    """
    x = np.asarray(values, dtype=np.float64)
    observed = float(moving_average(x, window).var())
    if len(x) < 2 * window or np.ptp(x) == 0:
        raise ValueError(
            f"fluctuation needs at least two windows ({2 * window} values) that are not all equal, "
            f"got {len(x)}"
        )
    rng = np.random.default_rng(seed)
    shuffled = np.array(
        [moving_average(rng.permutation(x), window).var() for _ in range(permutations)]
    )
    expected = float(shuffled.mean())
    p = float((1 + (shuffled >= observed - 1e-15).sum()) / (1 + permutations))
    few, many = np.quantile(shuffled, [0.025, 0.975])
    return Fluctuation(observed, expected, observed / expected, observed / many, observed / few, p)
