"""Logistic regression: closed forms of Firth's estimate, scikit-learn, coverage, what has none."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from tttlib import statistics
from tttlib.statistics.logistic_regression import firth

SEED = 4


def simulated(rng: np.random.Generator, n: int, effect: float = 0.7) -> pd.DataFrame:
    size, distance = rng.random(n) * 40 + 3, rng.normal(size=n)
    domain = rng.choice(["blur", "noise"], n)
    logit = effect * (size - size.mean()) / size.std() - 0.4 * distance + (domain == "noise") - 0.5
    correct = rng.random(n) < expit(logit)
    return pd.DataFrame({"size": size, "distance": distance, "domain": domain, "correct": correct})


def test_firth_adds_half_to_each_cell_of_a_saturated_table() -> None:
    # 2x2 tables, the second separated: nobody is wrong in group 1
    for cells in ([[5, 9], [12, 4]], [[5, 9], [12, 0]]):
        y = np.repeat([1, 0, 1, 0], np.ravel(cells))
        group = np.repeat([0, 0, 1, 1], np.ravel(cells))
        x = np.stack([np.ones(len(y)), group], 1)
        got = firth(x, y, np.ones((1, len(y))))[0]
        (a, b), (c, d) = np.asarray(cells) + 0.5
        np.testing.assert_allclose(got, [np.log(a / b), np.log(c / d) - np.log(a / b)], atol=1e-6)


def test_weights_are_repetitions(rng: np.random.Generator) -> None:
    rows = simulated(rng, 60)
    x = np.stack([np.ones(60), rows["distance"]], 1)
    counts = rng.integers(0, 4, 60)
    got = firth(x, rows["correct"], np.stack([counts, np.ones(60)]))
    again = firth(np.repeat(x, counts, 0), np.repeat(rows["correct"], counts),
                  np.ones((1, counts.sum())))  # fmt: skip
    np.testing.assert_allclose(got[0], again[0], atol=1e-6)
    assert not np.allclose(got[0], got[1])


def test_many_rows_agree_with_scikit_learn(rng: np.random.Generator) -> None:
    rows = simulated(rng, 4000)
    got = statistics.logistic(rows, "correct", ["size", "distance"], ["domain"], resamples=50)
    standard = rows[["size", "distance"]].apply(lambda c: (c - c.mean()) / c.std(ddof=0))
    noise = rows["domain"] != rows["domain"].iloc[0]
    oracle = LogisticRegression(C=1e12, tol=1e-10, max_iter=1000)
    oracle.fit(standard.assign(noise=noise), rows["correct"])
    np.testing.assert_allclose(got["coefficient"][1:], oracle.coef_[0], atol=5e-3)
    assert got["term"].tolist()[1:3] == ["size", "distance"]
    assert got["term"][3].startswith("domain: ")
    assert got.loc[1, "odds_ratio"] == pytest.approx(np.exp(got.loc[1, "coefficient"]))
    assert got.loc[1, "one_sd"] == pytest.approx(rows["size"].std(ddof=0))
    assert got["n"].eq(4000).all() and got["note"].eq("").all()


def test_interval_covers_the_truth_with_clusters(rng: np.random.Generator) -> None:
    hits = 0
    for seed in range(60):
        image = np.repeat(np.arange(80), 5)  # five corruptions of one image: alike
        x = rng.normal(size=80)[image]
        rows = pd.DataFrame({"x": x, "image": image})
        rows["correct"] = (rng.random(80)[image] < expit(0.8 * x)) ^ (rng.random(400) < 0.02)
        got = statistics.logistic(rows, "correct", ["x"], clusters=["image"], resamples=150,
                                  seed=seed).set_index("term").loc["x"]  # fmt: skip
        hits += got["low"] <= 0.8 * got["one_sd"] * 0.93 <= got["high"]
    naive = statistics.logistic(rows, "correct", ["x"], resamples=150).set_index("term").loc["x"]
    assert hits / 60 >= 0.86
    assert got["high"] - got["low"] > 1.6 * (naive["high"] - naive["low"])


def test_separation_constants_and_combinations_have_a_defined_result(
    rng: np.random.Generator,
) -> None:
    rows = simulated(rng, 80)
    rows["correct"] = rows["size"] > rows["size"].median()  # size tells right from wrong
    rows = rows.assign(severity=5.0, twice=2 * rows["size"] + 1)
    got = statistics.logistic(
        rows, "correct", ["size", "severity", "twice"], resamples=60
    ).set_index("term")
    assert np.isfinite(got.loc["size", "coefficient"]) and got.loc["size", "coefficient"] > 2
    assert got.loc["severity", "note"] == "constant"
    assert got.loc["twice", "note"].startswith("a combination")
    assert got.loc[["severity", "twice"], ["coefficient", "low", "p"]].isna().all(axis=None)


def test_logistic_refuses(rng: np.random.Generator) -> None:
    rows = simulated(rng, 20)
    with pytest.raises(ValueError, match="no column 'area'"):
        statistics.logistic(rows, "correct", ["area"])
    with pytest.raises(ValueError, match="right or wrong"):
        statistics.logistic(rows, "size", ["distance"])
    rows.loc[3, "size"] = np.nan
    with pytest.raises(ValueError, match="'size' holds non-finite"):
        statistics.logistic(rows, "correct", ["size"])
