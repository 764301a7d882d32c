"""Errors and certainty of many methods, published numbers by network, and change over rounds."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tttlib.tables import comparison_tables
from tttlib.tables.adaptation_tables import against


def rows(n: int = 300) -> pd.DataFrame:
    random = np.random.default_rng(0)
    parts = []
    for method, error, confidence in (("source", 0.4, 0.6), ("palm", 0.2, 0.99), ("x", 0.1, 0.9)):
        wrong = (random.random(n) < error).astype(float)
        part = pd.DataFrame({"method": method, "id": range(n), "domain": "fog", "severity": 5.0})
        part = part.assign(block=0, seed=0, error=wrong, correct=wrong == 0)
        parts.append(part.assign(confidence=confidence, nll=0.5, brier=0.25))
    return pd.concat(parts, ignore_index=True)


def test_errors_and_certainty() -> None:
    given = rows()
    table = comparison_tables.errors_and_certainty(given).set_index("method")
    means = given.groupby("method")["error"].mean()
    assert list(table.index) == ["x", "palm", "source"] and set(table["n"]) == {300}
    for name in table.index:
        assert table.loc[name, "error"] == pytest.approx(100 * means[name])
        assert table.loc[name, "low"] < table.loc[name, "error"] < table.loc[name, "high"]
    # One confidence for all answers: the ECE is its distance from the accuracy.
    assert table.loc["palm", "ece"] == pytest.approx(100 * (0.99 - (1 - means["palm"])))
    gap = table.loc["x"]
    assert gap["minus palm"] == pytest.approx(100 * (means["x"] - means["palm"]))
    assert np.isnan(table.loc["palm", "minus palm"]) and np.isnan(table.loc["source", "ece low"])
    assert set(table["nll"]) == {0.5} and set(table["brier"]) == {0.25}


def test_published_numbers_keep_networks_apart() -> None:
    found = comparison_tables.published("imagenet-c")
    assert found["published by PALM"]["palm"] == pytest.approx(60.1)
    assert found["published, ResNet-50"]["roid"] == pytest.approx(54.5)
    assert found["published, ViT-B/16"]["cotta"] == pytest.approx(77.0)
    mixed = comparison_tables.published("cifar10-c", setting="mixed")
    assert mixed["published, WRN-28-10"]["eata"] == pytest.approx(28.6)
    assert mixed["published by PALM"].empty


def test_change_over_rounds() -> None:
    n, rises = 200, {"source": 0.0, "tent": 0.2, "palm": 0.0}
    parts = [
        pd.DataFrame({"method": m, "round": k, "id": np.arange(n) + n * k, "domain": "fog",
                      "error": (np.arange(n) < round(n * (0.2 + rise * k))).astype(float)})
        for m, rise in rises.items() for k in range(3)
    ]  # fmt: skip
    by_round = against(pd.concat(parts, ignore_index=True), "source", groups=["round"])
    lost = comparison_tables.last_minus_first(by_round, "tent")
    assert lost["difference"] == pytest.approx(0.4) and 0.3 < lost["low"] < lost["high"] < 0.5
    kept = comparison_tables.last_minus_first(by_round, "palm")
    assert kept["difference"] == pytest.approx(0) and kept["low"] < 0 < kept["high"]
    with pytest.raises(ValueError, match="two rounds or more"):
        comparison_tables.last_minus_first(by_round[by_round["round"] == 0], "palm")
