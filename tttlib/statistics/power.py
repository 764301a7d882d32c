"""What a sample of a given size can show, and how large a sample must be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import ceil
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from tttlib.statistics.paired_answers import bonett_price, with_doubt

_MOST = 2**40  # images; more are never asked for


class SampleSize(NamedTuple):
    """Number of images (rows) and of clusters that they form."""

    images: int
    clusters: int


def images_needed(
    margin: float,
    flip_rate: float,
    *,
    effect: float | None = None,
    cluster_size: float = 1.0,
    dependence: float = 0.0,
    power: float = 0.8,
    level: float = 0.95,
) -> SampleSize:
    """Return how many images decide a claim on a change of accuracy with this `power`.

    Parameters
    ----------
    margin
        The smallest change that matters, a fraction above 0: 0.01 is one point.
    flip_rate
        Share of answers that change, in either direction, in [0, 1].
    effect
        The true change. 0: enough images to call it negligible. Another: enough to tell its sign.
        None: enough for both, with a change as large as the margin.
    cluster_size
        Rows in a cluster, 1 or more (15 for one image under 15 corruptions).
    dependence
        Correlation of changes within a cluster, in [0, 1].
    power
        Probability of the decision.
    level
        Coverage of the interval, that of `paired_answers`.

    Raises
    ------
    ValueError
        For a number out of range, or an effect larger than the flip rate.
    """
    _check(margin, flip_rate, cluster_size, dependence, power, level)
    effects = (0.0, min(margin, flip_rate)) if effect is None else (effect,)
    if effect and abs(effect) > flip_rate:
        raise ValueError(f"an effect of {effect} needs a flip rate at least as large, {flip_rate}")

    def enough(clusters: int) -> bool:
        return all(
            _chance(clusters * cluster_size, clusters, margin, flip_rate, e, dependence, level)
            >= power
            for e in effects
        )

    clusters = _smallest(enough)
    return SampleSize(ceil(clusters * cluster_size), clusters)


def smallest_margin(
    n: float,
    flip_rate: float,
    *,
    cluster_size: float = 1.0,
    dependence: float = 0.0,
    power: float = 0.8,
    level: float = 0.95,
) -> float:
    """Return the smallest margin within which `n` images call no change negligible.

    The same number, about, is the smallest change whose sign they tell. Arguments as in
    `images_needed`; NaN when no margin below 1 will do.
    """
    _check(1.0, flip_rate, cluster_size, dependence, power, level)
    clusters = max(2, int(n / cluster_size))

    def enough(steps: int) -> bool:
        margin = steps / 10_000
        return _chance(n, clusters, margin, flip_rate, 0.0, dependence, level) >= power

    steps = _smallest(enough, first=1, most=10_000)
    return steps / 10_000 if enough(steps) else float("nan")


def power_table(
    sizes: Mapping[str, int], flip_rate: float, *, margin: float = 0.01
) -> pd.DataFrame:
    """Return what each comparison can decide, when a share `flip_rate` of its answers changes.

    `sizes` are the numbers of independent images by the comparison's name. Columns: difference (the
    name), images, answers changed (a share), smallest effect (see `smallest_margin`), and images
    for the margin (see `images_needed`).
    """
    needed = images_needed(margin, flip_rate).images
    return pd.DataFrame(
        {
            "difference": name,
            "images": n,
            "answers changed": flip_rate,
            "smallest effect": smallest_margin(n, flip_rate),
            f"images for {margin:g}": needed,
        }
        for name, n in sizes.items()
    )


def _chance(
    n: float,
    clusters: int,
    margin: float,
    flip_rate: float,
    effect: float,
    dependence: float,
    level: float,
) -> float:
    """Return the probability that `n` images decide, in the normal approximation."""
    size = n / clusters
    changes, largest = flip_rate * n, max(1.0, size)
    effective = n / with_doubt(1 + (largest - 1) * dependence, changes, largest)
    up, down = (effective * (flip_rate + sign * effect) / 2 for sign in (1, -1))
    low, high = bonett_price(up, down, effective, df=max(1, clusters - 1), level=level)
    half, middle = float(high - low) / 2, float(high + low) / 2
    # Far from the truth the bounds are cut at 1; such a half width decides nothing anyway.
    error = np.sqrt(max(flip_rate - effect**2, 1e-12) / float(effective))
    if effect == 0:
        return float(max(0.0, 2 * stats.norm.cdf((margin - half) / error) - 1))
    return float(stats.norm.cdf((abs(middle) - half) / error))


def _smallest(enough: Callable[[int], bool], first: int = 2, most: int = _MOST) -> int:
    """Return the smallest whole number from `first` on that is enough, at most `most`."""
    high = first
    while high < most and not enough(high):
        high = min(2 * high, most)
    low = max(first, high // 2)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return high


def _check(
    margin: float, flips: float, size: float, dependence: float, power: float, level: float
) -> None:
    if not (0 < margin <= 1 and 0 <= flips <= 1 and size >= 1 and 0 <= dependence <= 1):
        raise ValueError(
            "need 0 < margin <= 1, 0 <= flip_rate <= 1, cluster_size >= 1 and 0 <= dependence <= "
            f"1, not {margin}, {flips}, {size} and {dependence}"
        )
    _deviates(power, level)


def smallest_correlation(n: float, *, power: float = 0.8, level: float = 0.95) -> float:
    """Return the |r| that a two-sided test of `n` independent pairs finds with this `power`.

    NaN for n <= 3. From Fisher's z: atanh r = (z_level + z_power) / sqrt(n - 3). Source: Cohen,
    Statistical Power Analysis for the Behavioral Sciences, 1988, chapter 3.
    """
    if n != n or n <= 3:
        return float("nan")
    return float(np.tanh(_deviates(power, level) / np.sqrt(n - 3)))


def smallest_difference(sd: float, n: float, *, power: float = 0.8, level: float = 0.95) -> float:
    """Return the mean of `n` values of spread `sd` that differs from zero with this `power`.

    For two independent groups of `n` right-or-wrong answers each, a share p of them right:
    sd = sqrt(2 p (1 - p)). NaN for n < 1. Source: Cohen 1988, chapter 2, in the normal
    approximation.
    """
    if not n >= 1:
        return float("nan")
    return float(_deviates(power, level) * sd / np.sqrt(n))


def _deviates(power: float, level: float) -> float:
    if not (0 < power < 1 and 0 < level < 1):
        raise ValueError(f"need power and level between 0 and 1, got {power} and {level}")
    return float(stats.norm.ppf((1 + level) / 2) + stats.norm.ppf(power))
