"""Smallest effects and numbers of images against simulation."""

from __future__ import annotations

import interval_simulation as simulation
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
    significant = stats.pearsonr(x, y, axis=1).pvalue < 0.05
    assert significant.mean() == pytest.approx(0.8, abs=0.025)
    assert np.isnan(statistics.smallest_correlation(3))


def test_smallest_difference_is_found_four_times_in_five(rng: np.random.Generator) -> None:
    p, n = 0.5, 100
    gap = statistics.smallest_difference(np.sqrt(2 * p * (1 - p)), n)
    a, b = rng.binomial(n, p - gap / 2, 20000) / n, rng.binomial(n, p + gap / 2, 20000) / n
    z = (b - a) / np.sqrt((a * (1 - a) + b * (1 - b)) / n)
    assert (z > 1.96).mean() == pytest.approx(0.8, abs=0.03)
    with pytest.raises(ValueError, match="between 0 and 1"):
        statistics.smallest_difference(1, 10, power=80)


@pytest.mark.parametrize(
    ("margin", "flips", "effect", "size", "dependence"),
    [
        (0.05, 0.1, 0.0, 1, 0.0),
        (0.05, 0.1, 0.05, 1, 0.0),
        (0.05, 0.2, 0.05, 10, 0.1),
        (0.05, 0.2, 0.0, 10, 0.1),
        (0.02, 0.05, -0.03, 5, 0.2),
    ],
)
def test_so_many_images_decide_four_times_in_five(
    margin: float, flips: float, effect: float, size: int, dependence: float
) -> None:
    n, clusters = statistics.images_needed(
        margin, flips, effect=effect, cluster_size=size, dependence=dependence
    )
    assert n == clusters * size
    rng = np.random.default_rng(0)
    counts = simulation.drawn(rng, 3000, n, clusters, flips, effect, dependence)
    low, high, _ = simulation.intervals(*counts, size)
    inside = (low > -margin) & (high < margin)
    decided = inside if effect == 0 else np.where(effect > 0, low > 0, high < 0)
    assert decided.mean() == pytest.approx(0.8, abs=0.06)


def test_both_answers_need_the_larger_number() -> None:
    both = statistics.images_needed(0.01, 0.05)
    one = [statistics.images_needed(0.01, 0.05, effect=e).images for e in (0.0, 0.01)]
    assert both.images == max(one) > min(one) > 1000
    # without a change 2.77 / (n + 2) is left open
    assert statistics.images_needed(0.01, 0.0).images == pytest.approx(2.77 / 0.01, rel=0.02)
    dependent = statistics.images_needed(0.01, 0.05, cluster_size=15, dependence=0.2)
    assert dependent.images > 3 * both.images and dependent.clusters < both.clusters
    worst = statistics.images_needed(0.01, 0.05, cluster_size=15, dependence=1.0)
    assert worst.clusters == pytest.approx(both.clusters, rel=0.02)


def test_the_smallest_margin_is_the_inverse() -> None:
    for options in ({}, {"cluster_size": 15, "dependence": 0.1}):
        n = statistics.images_needed(0.02, 0.05, effect=0.0, **options).images
        assert statistics.smallest_margin(n, 0.05, **options) == pytest.approx(0.02, abs=2e-4)
    assert np.isnan(statistics.smallest_margin(2, 0.5, cluster_size=2))


@pytest.mark.parametrize(
    ("margin", "flips", "options", "message"),
    [
        (0.0, 0.1, {}, "0 < margin"),
        (0.01, 1.1, {}, "flip_rate"),
        (0.01, 0.1, {"cluster_size": 0.5}, "cluster_size"),
        (0.01, 0.1, {"dependence": 2}, "dependence"),
        (0.01, 0.1, {"effect": 0.2}, "at least as large"),
        (0.01, 0.1, {"power": 80}, "between 0 and 1"),
    ],
)
def test_images_needed_refuses(margin: float, flips: float, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        statistics.images_needed(margin, flips, **options)


def test_power_table_has_a_row_for_each_comparison() -> None:
    table = statistics.power_table({"few": 100, "many": 4000}, 0.05, margin=0.02)
    assert table["difference"].tolist() == ["few", "many"]
    assert table["images"].tolist() == [100, 4000]
    known = [statistics.smallest_margin(n, 0.05) for n in (100, 4000)]
    assert table["smallest effect"].tolist() == known
    assert set(table["images for 0.02"]) == {statistics.images_needed(0.02, 0.05).images}
