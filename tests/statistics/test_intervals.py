"""Bootstrap intervals against theory and the slow obvious way."""

from __future__ import annotations

import numpy as np
import pytest

from tttlib import statistics


def test_interval_of_independent_values_agrees_with_theory(rng: np.random.Generator) -> None:
    for values in (rng.normal(size=2000), (rng.random(2000) < 0.3).astype(float)):
        got = statistics.bootstrap(values, resamples=4000)
        half = 1.96 * values.std() / np.sqrt(len(values))
        assert got.mean == pytest.approx(values.mean())
        assert got.low == pytest.approx(values.mean() - half, abs=0.08 * half)
        assert got.high == pytest.approx(values.mean() + half, abs=0.08 * half)
        assert got.n == 2000


def test_few_distinct_values_give_the_same_interval_as_drawing_each(
    rng: np.random.Generator,
) -> None:
    values = rng.integers(-1, 2, size=800).astype(float)
    short = statistics.bootstrap(values, resamples=8000)
    obvious = [rng.choice(values, size=800).mean() for _ in range(8000)]
    assert [short.low, short.high] == pytest.approx(np.quantile(obvious, [0.025, 0.975]), abs=4e-3)


def test_one_cluster_factor_draws_whole_clusters(rng: np.random.Generator) -> None:
    clusters = np.repeat(np.arange(40), rng.integers(5, 60, size=40))
    values = rng.normal(size=40)[clusters] + 0.1 * rng.normal(size=len(clusters))
    got = statistics.bootstrap(values, [clusters], resamples=6000)
    groups = [values[clusters == c] for c in range(40)]
    obvious = [
        np.concatenate([groups[i] for i in rng.integers(0, 40, size=40)]).mean()
        for _ in range(6000)
    ]
    width = got.high - got.low
    assert [got.low, got.high] == pytest.approx(
        np.quantile(obvious, [0.025, 0.975]), abs=0.05 * width
    )
    naive = statistics.bootstrap(values)
    assert width > 3 * (naive.high - naive.low)


def test_crossed_factors_multiply_their_weights(rng: np.random.Generator) -> None:
    rows, columns = (a.ravel() for a in np.meshgrid(np.arange(12), np.arange(9)))
    values = rng.normal(size=12)[rows] + rng.normal(size=9)[columns]
    keep = rng.random(len(values)) < 0.7  # not every cell is occupied
    rows, columns, values = rows[keep], columns[keep], values[keep]
    got = statistics.bootstrap(values, [rows, columns], resamples=6000)
    obvious = []
    for _ in range(6000):
        r = np.bincount(rng.integers(0, 12, size=12), minlength=12)[rows]
        c = np.bincount(rng.integers(0, 9, size=9), minlength=9)[columns]
        obvious.append(np.average(values, weights=r * c))
    width = got.high - got.low
    assert [got.low, got.high] == pytest.approx(
        np.quantile(obvious, [0.025, 0.975]), abs=0.06 * width
    )


def test_interval_covers_the_truth_as_often_as_it_says(rng: np.random.Generator) -> None:
    hits = 0
    for trial in range(200):
        clusters = np.repeat(np.arange(30), 10)
        values = rng.normal(size=30)[clusters] + rng.normal(size=300)
        got = statistics.bootstrap(values, [clusters], resamples=400, seed=trial)
        hits += got.low <= 0 <= got.high
    assert 0.87 <= hits / 200 <= 0.99


def test_same_seed_same_interval_and_cluster_names_may_be_strings() -> None:
    values = np.random.default_rng(0).normal(size=500)
    names = np.array(["a", "b", "c", "d", "e"])[np.arange(500) % 5]
    names = np.char.add(names, (np.arange(500) % 7).astype(str))  # 35 clusters
    first = statistics.bootstrap(values, [names], seed=1)
    assert first == statistics.bootstrap(values, [names], seed=1)
    assert first != statistics.bootstrap(values, [names], seed=2)


def test_paired_uses_that_the_same_images_were_seen(rng: np.random.Generator) -> None:
    hard = rng.random(1000)
    before, after = (hard < 0.5).astype(float), (hard < 0.53).astype(float)
    got = statistics.paired(before, after)
    assert got.mean == pytest.approx((after - before).mean())
    assert 0 < got.low < got.mean < got.high
    assert got.high - got.low < 0.5 * (lambda i: i.high - i.low)(statistics.bootstrap(after))
    assert statistics.paired(after, before).mean == pytest.approx(-got.mean)
    with pytest.raises(ValueError, match="equal lengths"):
        statistics.paired(before, after[:-1])


@pytest.mark.parametrize(
    ("values", "clusters", "options"),
    [
        ([], [], {}),
        ([1.0, np.nan], [], {}),
        ([1.0, 2.0], [[0]], {}),
        ([1.0, 2.0], [], {"level": 95}),
        ([1.0, 2.0], [], {"resamples": 0}),
    ],
)
def test_bootstrap_refuses(values: list, clusters: list, options: dict) -> None:
    with pytest.raises(ValueError):
        statistics.bootstrap(values, clusters, **options)


def test_the_difference_of_independent_means_joins_their_distances() -> None:
    first = statistics.Interval(0.2, 0.1, 0.5, 30)
    second = statistics.Interval(0.6, 0.2, 0.8, 50)
    found = statistics.difference_of_means(first, second)
    assert found.mean == pytest.approx(0.4) and found.n == 80
    assert found.low == pytest.approx(0.4 - np.hypot(0.4, 0.3))
    assert found.high == pytest.approx(0.4 + np.hypot(0.2, 0.1))
