"""Correlations and the reliability of means against scipy and simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from tttlib import statistics

SEED = 11


@pytest.mark.parametrize("method", ["pearson", "spearman"])
def test_estimate_interval_and_p_agree_with_scipy_on_normal_pairs(
    method: str, rng: np.random.Generator
) -> None:
    x = rng.normal(size=400)
    y = 0.12 * x + rng.normal(size=400) ** 3 / 3
    got = statistics.correlate(x, y, method=method, resamples=4000)
    oracle = (stats.pearsonr if method == "pearson" else stats.spearmanr)(x, y)
    assert got.r == pytest.approx(oracle.statistic, abs=1e-12)
    y = 0.12 * x + rng.normal(size=400)  # normal pairs: Fisher's interval is the oracle
    got, oracle = statistics.correlate(x, y, resamples=4000), stats.pearsonr(x, y)
    theory = oracle.confidence_interval()
    assert [got.low, got.high] == pytest.approx([theory.low, theory.high], abs=0.015)
    assert got.p == pytest.approx(oracle.pvalue, rel=0.5)
    assert got.effective_n == pytest.approx(400, rel=0.15)


def test_interval_leaves_zero_out_exactly_when_p_is_small(rng: np.random.Generator) -> None:
    found = []
    for seed in range(60):
        x = rng.normal(size=25)
        got = statistics.correlate(x, 0.4 * x + rng.normal(size=25), resamples=200, seed=seed)
        found.append((got.low > 0 or got.high < 0, got.p < 0.05))
    assert all(a == b for a, b in found) and 10 < sum(a for a, _ in found) < 58


@pytest.mark.parametrize("n", [10, 50])
def test_few_classes_still_cover_the_truth(n: int, rng: np.random.Generator) -> None:
    rho, hits = 0.5, 0
    for seed in range(300):
        x = rng.normal(size=n)
        y = rho * x + np.sqrt(1 - rho**2) * rng.normal(size=n)
        got = statistics.correlate(x, y, resamples=300, seed=seed)
        hits += got.low <= rho <= got.high
    assert 0.91 <= hits / 300 <= 0.99


def test_clusters_widen_what_depends_on_them(rng: np.random.Generator) -> None:
    hits, naive = 0, 0
    for seed in range(150):
        cluster = np.repeat(np.arange(25), 12)
        x = rng.normal(size=25)[cluster] + 0.3 * rng.normal(size=300)
        y = rng.normal(size=25)[cluster] + 0.3 * rng.normal(size=300)
        got = statistics.correlate(x, y, [cluster], resamples=200, seed=seed)
        hits += got.low <= 0 <= got.high
        naive += statistics.correlate(x, y, resamples=200, seed=seed).p > 0.05
    assert 0.89 <= hits / 150 <= 0.99
    assert naive / 150 < 0.6  # what clusters are for
    assert got.effective_n < 60


def test_what_has_no_correlation_says_so() -> None:
    for x, y in (([1.0, 2, 3, 4], [5.0, 5, 5, 5]), ([1.0, 2, 3], [3.0, 2, 1])):
        got = statistics.correlate(x, y)
        assert np.isnan([got.r, got.low, got.high, got.p]).all() and got.n == len(x)


@pytest.mark.parametrize(
    ("x", "y", "options", "message"),
    [
        ([1.0, 2], [1.0], {}, "two arrays"),
        ([1.0, np.nan], [1.0, 2], {}, "finite"),
        ([1.0, 2], [1.0, 2], {"method": "kendall"}, "pearson, spearman"),
        ([1.0, 2, 3, 4], [1.0, 3, 2, 4], {"clusters": [[0, 0, 0, 0]]}, "one cluster"),
        ([1.0, 2, 3, 4], [1.0, 3, 2, 4], {"clusters": [[0, 1]]}, "4 values but clusters"),
        ([1.0, 2, 3, 4], [1.0, 3, 2, 4], {"level": 95}, "level"),
    ],
)
def test_correlate_refuses(x: list, y: list, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        statistics.correlate(x, y, **options)


def test_reliability_is_the_share_of_true_variance(rng: np.random.Generator) -> None:
    groups = np.repeat(np.arange(400), 25)
    noise = rng.normal(size=10_000)
    assert statistics.reliability(noise, groups) < 0.15
    true = rng.normal(size=400) * 0.2  # variance 0.04 against 1 / 25 of sampling
    assert statistics.reliability(true[groups] + noise, groups) == pytest.approx(0.5, abs=0.08)
    assert np.isnan(statistics.reliability([1.0, 2.0], [0, 1]))
