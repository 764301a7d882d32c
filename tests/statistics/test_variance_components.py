"""Shares of variance against the textbook sums, known truths and their own intervals."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tttlib import statistics
from tttlib.statistics.variance_components import DIFFERENCE, FACTORS, design, shares

C, N, A, D = 4, 6, 5, 8  # classes, images a class, corruptions, dimensions


def rows(counts: list[int] | None = None) -> pd.DataFrame:
    label = np.repeat(np.arange(C), counts or [N] * C)
    table = pd.DataFrame({"class": label, "id": 100 + np.arange(len(label))})
    table = table.loc[table.index.repeat(A)].reset_index(drop=True)
    return table.assign(domain=np.tile(list("abcde"), len(label)))


def cloud(table: pd.DataFrame, seed: int, **size: float) -> np.ndarray:
    """Gaussian group effects, drawn once for all seeds, and noise of images and of points."""
    fixed, rng = np.random.default_rng(99), np.random.default_rng(seed)
    domain, label = table["domain"].map("abcde".index), table["class"]
    image = table["id"] - 100
    x = size.get("corruption", 0) * fixed.normal(size=(A, D))[domain]
    x = x + size.get("class_", 0) * fixed.normal(size=(C, D))[label]
    x = x + size.get("image", 1) * rng.normal(size=(len(table), D))[image]
    return x + size.get("rest", 1) * rng.normal(size=(len(table), D))


def by_hand(x: np.ndarray, table: pd.DataFrame) -> list[float]:
    """Plain sums of squares of the nested, crossed layout, group by group."""
    frame = pd.DataFrame(x)

    def means(*names: str) -> np.ndarray:
        return frame.groupby([table[n] for n in names]).transform("mean").to_numpy()

    grand = x.mean(0)
    a, b, ab, i = means("domain"), means("class"), means("domain", "class"), means("id")
    squares = [a - grand, b - grand, ab - a - b + grand, i - b, x - ab - i + b]
    sums = [float((s**2).sum()) for s in squares]
    return [s / sum(sums) for s in sums]


@pytest.mark.parametrize("counts", [None, [3, 9, 5, 2]], ids=["balanced", "unequal classes"])
def test_raw_shares_are_the_textbook_sums(counts: list[int] | None) -> None:
    table = rows(counts)
    x = cloud(table, 0, corruption=1, class_=0.5) + 1e4
    order = np.random.default_rng(1).permutation(len(table))
    got = statistics.variance_shares(x[order], table.iloc[order], resamples=20)
    assert got["factor"].tolist() == [*FACTORS, DIFFERENCE]
    expected = by_hand(x, table)
    np.testing.assert_allclose(got["raw"][:5], expected, atol=1e-9)
    assert got["raw"][5] == pytest.approx(expected[0] - expected[1])
    assert got["share"][:5].sum() == pytest.approx(1)


def test_omega_squared_of_a_balanced_layout() -> None:
    table = rows()
    x = cloud(table, 0, corruption=1, class_=0.5)
    raw = np.array(by_hand(x, table))
    image, rest = raw[3] / (C * (N - 1)), raw[4] / (C * (N - 1) * (A - 1))  # mean squares
    freedom = np.array([(A - 1) * rest, (C - 1) * image, (A - 1) * (C - 1) * rest])
    expected = (raw[:3] - freedom) / (1 + image)
    got = statistics.variance_shares(x, table, resamples=20)
    np.testing.assert_allclose(got["share"][:3], expected, atol=1e-12)


def test_weights_count_as_copies_do_in_the_raw_sums() -> None:
    table = rows()
    x = cloud(table, 0, corruption=1, class_=0.5)
    weights = np.arange(C * N) % 3 + 1
    copies = np.repeat(np.arange(C * N), weights)
    positions = (copies[:, None] * A + np.arange(A)).ravel()
    again = table.iloc[positions].assign(id=np.repeat(np.arange(len(copies)), A))
    got = shares(design(x, table), weights[None], correct=False)[0]
    np.testing.assert_allclose(got, by_hand(x[positions], again.reset_index(drop=True)), atol=1e-9)


def test_nothing_but_noise_gives_zero_on_average_where_raw_does_not() -> None:
    table = rows()
    found = [statistics.variance_shares(cloud(table, s), table, resamples=2) for s in range(60)]
    mean = pd.concat(found).groupby("factor")[["share", "raw"]].mean()
    assert abs(mean.loc["class", "share"]) < 0.012 < 0.08 < mean.loc["class", "raw"]
    assert abs(mean.loc["corruption", "share"]) < 0.006


def test_interval_covers_the_truth_as_often_as_it_says() -> None:
    table, sizes = rows(), {"corruption": 0.8, "class_": 0.6}
    parts = {k: cloud(table, 0, image=0, rest=0, **{k: v}) for k, v in sizes.items()}
    spread = {k: ((v - v.mean(0)) ** 2).sum(1).mean() for k, v in parts.items()}
    total = sum(spread.values()) + 2 * D
    truth = {k.strip("_"): v / total for k, v in spread.items()}
    hits = {name: 0 for name in truth}
    for seed in range(100):
        x = cloud(table, seed, **sizes)
        got = statistics.variance_shares(x, table, resamples=150, seed=seed).set_index("factor")
        for name, value in truth.items():
            hits[name] += got.loc[name, "low"] <= value <= got.loc[name, "high"]
    assert all(86 <= count <= 100 for count in hits.values()), hits


def test_difference_to_a_baseline_is_paired() -> None:
    table = rows()
    x = cloud(table, 0, corruption=1, class_=0.5)
    moved = x + 0.3 * cloud(table, 0, image=0, rest=0, class_=1)
    change = statistics.variance_shares(moved, table, baseline=x).set_index("factor")
    alone = [statistics.variance_shares(p, table).set_index("factor") for p in (moved, x)]
    assert change.loc["class", "share"] == pytest.approx(
        alone[0].loc["class", "share"] - alone[1].loc["class", "share"]
    )
    width = change["high"] - change["low"]
    assert width["class"] < 0.5 * (alone[1]["high"] - alone[1]["low"])["class"]
    assert change.loc["class", "low"] > 0
    assert not statistics.variance_shares(x, table, baseline=x)[["share", "low", "high"]].any(
        axis=None
    )


def test_clusters_widen_what_they_make_dependent() -> None:
    table = rows([N] * C)
    table = table.assign(photograph=(table["id"] - 100) % N)  # one of each in every class
    rng = np.random.default_rng(5)
    x = cloud(table, 0, image=0.1) + 3 * rng.normal(size=(N, D))[table["photograph"]]
    alone = statistics.variance_shares(x, table).set_index("factor").loc["image"]
    found = statistics.variance_shares(x, table, clusters=["photograph"]).set_index("factor")
    found = found.loc["image"]
    assert found["high"] - found["low"] > 1.2 * (alone["high"] - alone["low"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.iloc[1:], "1 of 120 pairs are not"),
        (lambda t: t.assign(domain="a"), "two or more corruptions"),
        (lambda t: t.assign(**{"class": 0}), "two or more classes"),
        (lambda t: t.assign(**{"class": t["id"]}), "two images of one class"),
    ],
)
def test_layouts_that_tell_nothing_are_refused(change: object, words: str) -> None:
    table = change(rows())  # type: ignore[operator]
    with pytest.raises(ValueError, match=words):
        statistics.variance_shares(np.eye(len(table)), table)
    with pytest.raises(ValueError, match="all points are equal"):
        statistics.variance_shares(np.ones((len(rows()), D)), rows())
    with pytest.raises(ValueError, match="as many finite points"):
        statistics.variance_shares(np.full((len(rows()), D), np.nan), rows())
