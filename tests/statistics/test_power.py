"""Smallest effects against simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from tttlib import statistics


def test_smallest_correlation_is_found_four_times_in_five(rng: np.random.Generator) -> None:
    n = 50
    rho = statistics.smallest_correlation(n)
    assert rho == pytest.approx(0.3867, abs=1e-3)
    x = rng.normal(size=(4000, n))
    y = rho * x + np.sqrt(1 - rho**2) * rng.normal(size=(4000, n))
    found = stats.pearsonr(x, y, axis=1).pvalue < 0.05
    assert found.mean() == pytest.approx(0.8, abs=0.025)
    assert np.isnan(statistics.smallest_correlation(3))


def test_smallest_difference_is_found_four_times_in_five(rng: np.random.Generator) -> None:
    p, n = 0.5, 100
    gap = statistics.smallest_difference(np.sqrt(2 * p * (1 - p)), n)
    a, b = rng.binomial(n, p - gap / 2, 20000) / n, rng.binomial(n, p + gap / 2, 20000) / n
    z = (b - a) / np.sqrt((a * (1 - a) + b * (1 - b)) / n)
    assert (z > 1.96).mean() == pytest.approx(0.8, abs=0.03)
    with pytest.raises(ValueError, match="between 0 and 1"):
        statistics.smallest_difference(1, 10, power=80)
