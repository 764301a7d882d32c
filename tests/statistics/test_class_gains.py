"""Class tests: no false alarm without a class effect, an alarm with one, blocks kept whole."""

from __future__ import annotations

import numpy as np
import pytest

from tttlib import statistics

SEED = 8


def gains(rng: np.random.Generator, n: int, up: float = 0.1, down: float = 0.1) -> np.ndarray:
    return rng.choice([1.0, 0.0, -1.0], n, p=[up, 1 - up - down, down])


LABELS = np.repeat(np.arange(10), 30)


@pytest.mark.parametrize(
    ("statistic", "null"),
    [("variance", "labels"), ("lowest", "labels"), ("highest", "labels"), ("lowest", "signs")],
)
def test_p_is_uniform_without_an_effect(
    statistic: str, null: str, rng: np.random.Generator
) -> None:
    options = {"statistic": statistic, "null": null, "permutations": 99}
    p = [
        statistics.class_test(gains(rng, 300), LABELS, seed=seed, **options).p
        for seed in range(120)
    ]
    assert 0.02 <= np.mean(np.asarray(p) <= 0.1) <= 0.18
    assert 0.4 < np.mean(p) < 0.65


def test_a_class_that_is_hurt_is_found(rng: np.random.Generator) -> None:
    x = gains(rng, 300)
    x[LABELS == 3] = gains(rng, 30, 0.02, 0.5)
    for statistic, null in (("variance", "labels"), ("lowest", "labels"), ("lowest", "signs")):
        got = statistics.class_test(x, LABELS, statistic=statistic, null=null, permutations=400)
        assert got.p < 0.02
    table = statistics.class_intervals(x, LABELS)
    assert table.loc[0, "label"] == 3 and table.loc[0, "high_all"] < 0
    assert table["gain"].is_monotonic_increasing
    assert table.loc[0, "gain"] == pytest.approx(x[LABELS == 3].mean())
    # below the band of the lowest class, not below that of the second lowest
    band = statistics.class_test(x, LABELS, permutations=400).band
    assert table.loc[0, "gain"] < band[0, 0]
    assert band.shape == (10, 2) and (np.diff(band[:, 0]) >= 0).all()
    assert statistics.class_test(x, LABELS, statistic="highest", permutations=400).p > 0.05


def test_better_everywhere_is_no_difference_between_classes(rng: np.random.Generator) -> None:
    x = gains(rng, 300, 0.5, 0.0)
    assert statistics.class_test(x, LABELS, permutations=200).p > 0.02
    assert statistics.class_test(x, LABELS, statistic="lowest", null="signs",
                                 permutations=200).p > 0.5  # fmt: skip


def test_dependent_values_need_blocks(rng: np.random.Generator) -> None:
    block = np.repeat(np.arange(60), 5)  # 6 blocks a class
    labels = np.repeat(np.arange(10), 30)
    alone, whole = [], []
    for seed in range(80):
        x = gains(rng, 60, 0.2, 0.2)[block]
        alone.append(statistics.class_test(x, labels, permutations=59, seed=seed).p)
        whole.append(statistics.class_test(x, labels, block, permutations=59, seed=seed).p)
    assert np.mean(np.asarray(alone) <= 0.1) > 0.5  # false alarms
    assert np.mean(np.asarray(whole) <= 0.1) < 0.22


def test_simultaneous_intervals_cover_the_smallest_class(rng: np.random.Generator) -> None:
    up = np.linspace(0.05, 0.25, 10)  # true gains -0.05 … +0.15
    alone, both = 0, 0
    for _ in range(300):
        x = np.concatenate([gains(rng, 30, u, 0.1) for u in up])
        table = statistics.class_intervals(x, LABELS)
        _, low, high = statistics.lowest(table)
        both += low <= -0.05 <= high
        mine = table.set_index("label").loc[9]
        alone += mine["low"] <= 0.15 <= mine["high"]
    assert both / 300 >= 0.95
    assert 0.92 <= alone / 300 <= 0.995


def test_a_class_without_a_change_is_not_certain() -> None:
    x = np.zeros(40)
    table = statistics.class_intervals(x, np.repeat([0, 1], 20))
    assert (table["low"] < -0.02).all() and (table["high"] > 0.02).all()
    single = statistics.class_intervals(np.zeros(4), np.repeat(["a", "b"], 2), [0, 0, 1, 1])
    assert single["blocks"].tolist() == [1, 1] and single["low"].lt(0).all()


@pytest.mark.parametrize(
    ("x", "labels", "blocks", "options", "message"),
    [
        ([0.0, 1], [0, 1], None, {"statistic": "mean"}, "variance, lowest, highest"),
        ([0.0, 1], [0, 1], None, {"null": "rows"}, "labels, signs"),
        ([0.0, 1], [0, 0], None, {}, "one class only"),
        ([0.0, 1], [0, 1], [7, 7], {}, "two classes"),
        ([0.0], [0, 1], None, {}, "must be"),
        ([0.0, np.nan], [0, 1], None, {}, "non-finite"),
    ],
)
def test_class_test_refuses(
    x: list, labels: list, blocks: list | None, options: dict, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        statistics.class_test(x, labels, blocks, **options)
