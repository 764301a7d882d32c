"""Moving averages, and the permutation test of their variance on known sequences."""

from __future__ import annotations

import numpy as np
import pytest

from tttlib import statistics


def test_moving_average_is_the_mean_of_each_window() -> None:
    x = np.random.default_rng(0).random(23)
    expected = [x[i : i + 5].mean() for i in range(19)]
    np.testing.assert_allclose(statistics.moving_average(x, 5), expected)
    np.testing.assert_allclose(statistics.moving_average(x, 23), [x.mean()])


@pytest.mark.parametrize("window", [0, 6])
def test_a_window_that_does_not_fit_is_refused(window: int) -> None:
    with pytest.raises(ValueError, match=f"window of {window}"):
        statistics.moving_average(np.zeros(5), window)


def test_coin_flips_are_rarely_called_a_drift() -> None:
    random = np.random.default_rng(1)
    found = [
        statistics.fluctuation(random.random(200) < 0.6, 20, permutations=200, seed=i).p
        for i in range(60)
    ]
    assert sum(p < 0.05 for p in found) <= 9  # 3 are expected
    assert 0.3 < np.mean(found) < 0.7


def test_the_ratio_is_one_for_noise_and_above_for_a_drift() -> None:
    random = np.random.default_rng(2)
    noise = statistics.fluctuation(random.random(4000) < 0.5, 100)
    assert 0.5 < noise.ratio < 1.6
    rising = statistics.fluctuation(random.random(1000) < np.linspace(0.3, 0.8, 1000), 100)
    assert rising.p < 0.01 and rising.ratio > 2
    assert 1 < rising.low < rising.ratio < rising.high
    assert noise.low < 1 < noise.high
    assert rising.observed == pytest.approx(rising.ratio * rising.expected)


def test_the_expected_variance_is_that_of_windows_of_independent_values() -> None:
    """Binomial: var(window mean) is p(1-p)/w up to the overlap of windows in a finite sequence."""
    x = np.tile([0, 1], 5000)
    found = statistics.fluctuation(np.random.default_rng(3).permutation(x), 10, permutations=300)
    assert found.expected == pytest.approx(0.25 / 10, rel=0.03)


@pytest.mark.parametrize("values", [np.ones(50), np.arange(7)])
def test_what_cannot_fluctuate_is_refused(values: np.ndarray) -> None:
    with pytest.raises(ValueError, match="at least two windows"):
        statistics.fluctuation(values, 5)


def test_longest_window_keeps_its_power() -> None:
    n, streams = 2400, 12
    window = statistics.longest_window(n, 0.2, streams=streams)
    assert window == 7
    random = np.random.default_rng(0)
    inside = []
    for _ in range(60):
        values = random.choice([-1.0, 0.0, 1.0], (streams, n // streams), p=[0.05, 0.9, 0.05])
        ratios = [statistics.fluctuation(v, window, permutations=50).ratio for v in values]
        _, low, high, _ = statistics.mean_of_few(ratios)
        inside.append(low > 0.8 and high < 1.2)
    assert 0.65 < np.mean(inside) < 0.95


def test_longest_window_grows_with_the_values() -> None:
    windows = [statistics.longest_window(n, 0.1, streams=20) for n in (10, 10_000, 100_000)]
    assert windows[0] == 2 and windows == sorted(windows)
    with pytest.raises(ValueError, match="streams >= 2"):
        statistics.longest_window(100, 0.1, streams=1)
