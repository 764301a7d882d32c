"""Intervals of paired answers: coverage, false verdicts, and what few changes cannot show."""

from __future__ import annotations

import interval_simulation
import numpy as np
import pandas as pd
import pytest

from tttlib import statistics
from tttlib.statistics.paired_answers import bonett_price, design_effect

# n, clusters, dependence, flip rate, effect: the hardest cells of the whole grid, and easy ones
SOME = [(20, 5, 0.2, 0.1, 0.1), (20, 20, 0.0, 0.3, 0.0), (100, 100, 0.0, 0.1, 0.1),
        (500, 20, 0.2, 0.1, 0.1), (500, 100, 1.0, 0.3, 0.0), (2000, 5, 0.2, 0.1, 0.1),
        (2000, 100, 0.05, 0.1, 0.0), (2000, 400, 0.2, 0.01, 0.01), (2000, 400, 0.05, 0.03, 0.01),
        (2000, 400, 0.0, 0.0, 0.0)]  # fmt: skip


def check(table: pd.DataFrame, runs: int) -> None:
    """At least 93 % coverage, at most 3 % of each false verdict, but for three standard errors."""
    for column, limit, sign in (
        ("coverage", 0.93, 1),
        ("false supported", 0.03, -1),
        ("false negligible", 0.03, -1),
    ):
        room = 3 * np.sqrt(limit * (1 - limit) / runs)
        short = sign * (table[column].dropna() - limit) < -room
        assert not short.any(), table.loc[short.index[short]].to_string()


def test_coverage_and_false_verdicts_in_some_cells() -> None:
    check(interval_simulation.simulated(2000, SOME), 2000)


@pytest.mark.slow
def test_coverage_and_false_verdicts_over_the_grid() -> None:
    check(interval_simulation.simulated(10_000, seed=1), 10_000)


def test_the_simulated_interval_is_inside_the_one_in_use(rng: np.random.Generator) -> None:
    for n, clusters, dependence, flips, effect in SOME:
        up, down = interval_simulation.drawn(rng, 1, n, clusters, flips, effect, dependence)
        low, high, effective = interval_simulation.intervals(up, down, n // clusters)
        before, after, code = [], [], []
        for c, (u, d) in enumerate(zip(up[0].astype(int), down[0].astype(int), strict=True)):
            rest = n // clusters - u - d
            before += [0] * u + [1] * d + [1] * rest
            after += [1] * u + [0] * d + [1] * rest
            code += [c] * (n // clusters)
        got = statistics.paired_answers(before, after, [code], resamples=200)
        assert got.effective_n == pytest.approx(effective[0])
        assert got.low <= low[0] + 1e-12 and got.high >= high[0] - 1e-12
        assert (got.n, got.mended, got.broken, got.df) == (n, up.sum(), down.sum(), clusters - 1)
        assert got.difference == pytest.approx((up - down).sum() / n)


def test_few_dependent_streams_of_two_factors_are_covered(rng: np.random.Generator) -> None:
    """Photographs and digits, crossed: what each shares adds to the error."""
    photograph, digit = np.arange(600) % 12, rng.integers(0, 60, 600)
    hits = 0
    for _ in range(200):
        shift = 0.15 * rng.normal(size=12)[photograph] + 0.15 * rng.normal(size=60)[digit]
        up = rng.random(600) < 0.2 + shift
        got = statistics.paired_answers(np.zeros(600), up, [photograph, digit], resamples=50)
        hits += got.low <= 0.22 <= got.high  # the mean of a share that is cut at 0
    assert hits / 200 >= 0.93


@pytest.mark.parametrize(("rows", "clusters"), [(1, 40), (15, 40), (60, 20)])
def test_without_a_change_clusters_count_not_rows(rows: int, clusters: int) -> None:
    code = np.repeat(np.arange(clusters), rows)
    got = statistics.paired_answers(np.ones(len(code)), np.ones(len(code)), [code])
    assert got.effective_n == pytest.approx(clusters) and (got.mended, got.broken) == (0, 0)
    assert -got.low == pytest.approx(got.high) and got.high > 2.77 / (clusters + 2)
    many = np.repeat(np.arange(1000), 2)
    two = statistics.paired_answers(np.ones(2000), np.ones(2000), [many, many % 5])
    assert two.effective_n == pytest.approx(5) and two.df == 4


def test_many_independent_changes_count_as_rows(rng: np.random.Generator) -> None:
    code, flips = np.arange(4000) % 400, rng.random((4000, 2)) < 0.5
    got = statistics.paired_answers(flips[:, 0], flips[:, 1], [code])
    assert got.effective_n > 3300
    drawn = statistics.paired(flips[:, 0], flips[:, 1], [code])
    assert got.high - got.low < 1.1 * (drawn.high - drawn.low)
    whole = np.repeat(flips[:400], 10, axis=0)  # ten answers of one image, all alike
    alike = statistics.paired_answers(whole[:, 0], whole[:, 1], [np.repeat(np.arange(400), 10)])
    assert alike.effective_n == pytest.approx(400, rel=0.15)


def test_bonett_and_price_by_hand() -> None:
    """n = 100, 14 mended, 4 broken: (15 - 5) / 102 and its Wald interval."""
    low, high = bonett_price(14, 4, 100)
    half = 1.959964 * np.sqrt((20 / 102 - (10 / 102) ** 2) / 102)
    assert [low, high] == pytest.approx([10 / 102 - half, 10 / 102 + half], abs=1e-6)


def test_one_cluster_tells_nothing() -> None:
    got = statistics.paired_answers([0, 0, 1, 1], [1, 1, 1, 1], [[7, 7, 7, 7]])
    assert (got.low, got.high) == (-1, 1) and got.effective_n == 1
    assert design_effect([0.0, 1.0, 0.0], [np.arange(3)]) == 1


@pytest.mark.parametrize(
    ("before", "after", "clusters", "message"),
    [
        ([0, 1], [1], [], "equal lengths"),
        ([], [], [], "N > 0"),
        ([0, 2], [1, 1], [], "between"),
        ([0, np.nan], [1, 1], [], "between"),
        ([0, 1], [1, 1], [[0]], "clusters of shape"),
    ],
)
def test_paired_answers_refuses(before: list, after: list, clusters: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        statistics.paired_answers(before, after, clusters)
