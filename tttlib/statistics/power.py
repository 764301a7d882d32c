"""What a sample of a given size can show."""

from __future__ import annotations

import numpy as np
from scipy import stats


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
