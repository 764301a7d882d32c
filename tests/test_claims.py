"""Verdicts: only an interval that agrees with itself decides, and nothing is not the unknown."""

from __future__ import annotations

from math import nan
from pathlib import Path

import numpy as np
import pytest

from tttlib import claims, results

S, C, U = claims.VERDICTS


@pytest.mark.parametrize(
    ("low", "high", "expected", "margin", "verdict"),
    [
        (0.01, 0.05, "above", 0.0, S),
        (-0.05, -0.01, "above", 0.0, C),
        (-0.01, 0.05, "above", 0.0, U),
        (0.01, 0.05, "above", 0.02, U),
        (0.01, 0.05, "above", 0.1, C),  # positive, but less than was claimed
        (-0.05, -0.01, "below", 0.0, S),
        (0.01, 0.05, "below", 0.0, C),
        (-0.05, -0.01, "below", 0.02, U),
        (-0.05, -0.01, "below", 0.1, C),
        (-0.05, 0.05, "zero", 0.1, S),
        (0.02, 0.05, "zero", 0.1, S),  # not zero, yet as good as
        (-0.2, 0.2, "zero", 0.1, U),  # holds zero because it knows nothing
        (0.05, 0.2, "zero", 0.1, U),
        (0.11, 0.2, "zero", 0.1, C),
        (-0.2, -0.11, "zero", 0.1, C),
        (0.0, 0.0, "above", 0.0, U),
        (0.0, 0.0, "below", 0.0, U),
        (-0.1, 0.0, "above", 0.0, U),
        (nan, nan, "above", 0.0, U),
        (nan, nan, "zero", 0.1, U),
    ],
)
def test_verdict(low: float, high: float, expected: str, margin: float, verdict: str) -> None:
    assert claims.decide(low, high, expected=expected, margin=margin) == verdict


@pytest.mark.parametrize(
    ("low", "high", "options", "message"),
    [
        (0, 1, {"expected": "equal"}, "above, below, zero"),
        (0, 1, {"expected": "zero"}, "above 0 for a claim of no effect"),
        (0, 1, {"expected": "above", "margin": -0.1}, "margin must be 0 or more"),
        (0, 1, {"expected": "above", "margin": nan}, "margin must be 0 or more"),
        (1, 0, {"expected": "above"}, "swap them"),
    ],
)
def test_decide_refuses(low: float, high: float, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        claims.decide(low, high, **options)


def test_a_95_per_cent_interval_supports_no_effect_wrongly_at_most_so_often() -> None:
    rng = np.random.default_rng(0)
    # the true effect is the margin itself, the worst case of a false claim of nothing
    middle = 0.1 + 0.02 * rng.normal(size=4000)
    found = [claims.decide(m - 0.0392, m + 0.0392, expected="zero", margin=0.1) for m in middle]
    assert 0.015 < found.count(S) / 4000 < 0.036
    assert 0.015 < found.count(C) / 4000 < 0.036


def some(high: float = 0.05) -> list[claims.Claim]:
    return [
        claims.Claim("TTT helps", 0.02, 0.01, high, 100, "images", "above"),
        claims.Claim("size does not matter", nan, nan, nan, 2, "classes", "zero", 0.1),
    ]


def test_claims_become_rows_that_are_replaced_only_when_they_change(tmp_path: Path) -> None:
    store = results.Store(tmp_path)
    unit = {"experiment": "claims", "notebook": "04"}
    rows = claims.keep(store, unit, some())
    assert rows["verdict"].tolist() == [S, U] and rows["notebook"].eq("04").all()
    assert rows.loc[0, ["n", "unit", "margin"]].tolist() == [100, "images", 0.0]
    path = store.path(unit)
    written = path.stat().st_mtime_ns
    claims.keep(store, unit, some())
    assert path.stat().st_mtime_ns == written
    assert claims.keep(store, unit, some(0.06)).loc[0, "high"] == 0.06
    assert path.stat().st_mtime_ns != written
    assert results.load(tmp_path)["unit"].tolist() == ["images", "classes"]
