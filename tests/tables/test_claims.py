"""Verdicts: only an interval that agrees with itself decides, and nothing is not the unknown."""

from __future__ import annotations

from math import nan
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tttlib import results
from tttlib.tables import claims

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


@pytest.mark.parametrize(("n", "verdict"), [(4, U), (150, U), (151, S)])
def test_few_unchanged_images_do_not_show_that_nothing_changes(n: int, verdict: str) -> None:
    row = pd.Series({"difference": 0.0, "low": 0.0, "high": 0.0, "n": n})
    one = claims.of_difference(
        "unchanged", row, unit="images", measure="b - a", expected="zero", margin=0.02
    )
    assert one.verdict == verdict and (one.low, one.high) == (-3 / n, 3 / n)


def test_claims_of_several_notebooks_are_collected(tmp_path: Path) -> None:
    store = results.Store(tmp_path)
    with pytest.raises(FileNotFoundError, match="no claims in"):
        claims.collect(store)
    row = pd.Series({"difference": 0.1, "low": 0.05, "high": 0.2, "n": 7})
    for notebook in ("03", "02"):
        one = claims.of_difference(f"of {notebook}", row, unit="images", measure="b - a")
        claims.keep(store, {"notebook": notebook}, [one])
    found = claims.collect(store)
    assert found["claim"].tolist() == ["of 02", "of 03"]
    assert set(found["verdict"]) == {"supported"} and set(found["n"]) == {7}


def test_of_values_is_decided_by_the_interval_of_the_mean() -> None:
    found = claims.of_values("x", [0.2, 0.3, 0.4], unit="layers", measure="m")
    assert found.n == 3 and found.estimate == pytest.approx(0.3) and found.verdict == S
    assert claims.of_values("x", [-0.2, 0.3], unit="layers", measure="m").verdict == U
    same = claims.of_values(
        "x", [0.0] * 10, unit="layers", measure="m", expected="zero", margin=0.1
    )
    assert same.verdict == U  # ten equal values leave 0.3 open
