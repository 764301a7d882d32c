"""Verdicts: only an interval that agrees with itself decides, and nothing is not the unknown."""

from __future__ import annotations

from math import nan
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from tttlib import results
from tttlib.tables import claims

S, C, N, U = claims.VERDICTS
BEYOND, WITHIN, MAYBE, NONE = claims.SIZES


@pytest.mark.parametrize(
    ("low", "high", "expected", "verdict", "size"),
    [
        (0.02, 0.05, "above", S, BEYOND),
        (0.005, 0.05, "above", S, MAYBE),
        (0.001, 0.009, "above", S, WITHIN),
        (-0.05, -0.02, "above", C, BEYOND),
        (-0.05, -0.001, "above", C, MAYBE),
        (-0.009, -0.001, "above", C, WITHIN),
        (-0.009, 0.009, "above", N, WITHIN),
        (0.0, 0.0, "above", N, WITHIN),
        (-0.01, 0.009, "above", U, NONE),  # touches the margin
        (-0.009, 0.02, "above", U, NONE),
        (-0.02, 0.0, "above", U, NONE),  # touches zero
        (-0.05, -0.02, "below", S, BEYOND),
        (0.001, 0.05, "below", C, MAYBE),
        (-0.009, 0.009, "below", N, WITHIN),
        (-0.2, 0.2, "below", U, NONE),
        (-0.009, 0.009, "zero", S, WITHIN),
        (0.002, 0.005, "zero", S, WITHIN),  # not zero, yet as good as
        (-0.2, 0.2, "zero", U, NONE),  # contains zero because it knows nothing
        (0.005, 0.2, "zero", U, MAYBE),
        (0.011, 0.2, "zero", C, BEYOND),
        (-0.2, -0.011, "zero", C, BEYOND),
        (nan, nan, "above", U, NONE),
        (nan, nan, "zero", U, NONE),
    ],
)
def test_verdict(low: float, high: float, expected: str, verdict: str, size: str) -> None:
    assert claims.decide(low, high, expected=expected) == verdict
    assert claims.size_of(low, high) == size


@pytest.mark.parametrize(
    ("low", "high", "options", "message"),
    [
        (0, 1, {"expected": "equal"}, "above, below, zero"),
        (0, 1, {"expected": "zero", "margin": 0.0}, "margin must be above 0"),
        (0, 1, {"expected": "above", "margin": -0.1}, "margin must be above 0"),
        (0, 1, {"expected": "above", "margin": nan}, "margin must be above 0"),
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


@pytest.mark.parametrize("expected", claims.EXPECTED)
@pytest.mark.parametrize("df", [4, np.inf])
def test_p_is_small_exactly_when_the_claim_is_decided(expected: str, df: float) -> None:
    rng = np.random.default_rng(1)
    for _ in range(300):
        middle, half = 0.02 * rng.normal(), 0.02 * rng.random() + 1e-4
        one = claims.Claim("c", middle, middle - half, middle + half, 9, "images", expected, df=df)
        assert (one.p < 0.05) == (one.verdict != U), one


def test_a_ratio_is_compared_with_one() -> None:
    one = claims.Claim("drifts", 1.5, 1.2, 1.9, 5, "streams", "above", margin=0.1, null=1.0)
    assert (one.verdict, one.size) == (S, BEYOND)
    assert claims.Claim("drifts", 1.5, 0.8, 1.9, 5, "streams", "above", 0.1, null=1.0).verdict == U


def test_holm_leaves_of_a_family_what_stands_together() -> None:
    def one(low: float, family: str) -> claims.Claim:
        return claims.Claim("c", low + 0.02, low, low + 0.04, 9, "images", "above", family=family)

    rows = claims.table([one(0.001, "a") for _ in range(10)] + [one(0.04, "a"), one(0.001, "b")])
    assert rows["verdict"].eq(S).all()
    assert rows["verdict_holm"].tolist() == [U] * 10 + [S, S]
    assert (rows["p_holm"] >= rows["p"]).all()
    lost = claims.table([claims.Claim("c", nan, nan, nan, 2, "classes", "zero", 0.1)]).iloc[0]
    assert np.isnan(lost["p_holm"]) and lost["verdict_holm"] == U


def answers(mended: int, broken: int, n: int) -> pd.Series:
    """A paired difference over n images, of which so many changed."""
    rows = pd.DataFrame({"id": np.arange(n), "domain": "fog", "step": 0, "correct": True})
    rows.loc[: mended - 1, "correct"] = False
    after = rows.assign(step=1, correct=True)
    after.loc[n - broken :, "correct"] = False
    return results.paired_difference(
        pd.concat([rows, after]), method_column="step", baseline=0
    ).iloc[0]


@pytest.mark.parametrize(
    ("mended", "broken", "n", "expected", "verdict"),
    [
        (0, 0, 20, "above", U),
        (0, 0, 400, "above", N),
        (0, 0, 20, "zero", U),
        (0, 0, 400, "zero", S),
        (5, 5, 4000, "above", N),
        (40, 5, 400, "above", S),
        (5, 40, 400, "above", C),
        (40, 5, 400, "below", C),
        (40, 5, 400, "zero", C),
        (5, 4, 60, "above", U),
    ],
)
def test_claims_on_answers(mended: int, broken: int, n: int, expected: str, verdict: str) -> None:
    row = answers(mended, broken, n)
    one = claims.of_difference("c", row, unit="images", measure="b - a", expected=expected)
    assert one.verdict == verdict
    assert (one.mended, one.broken, one.effective_n) == (mended, broken, pytest.approx(n))
    if verdict == U:
        assert one.needed > n
        enough = int(one.needed)
        more = answers(0, 0, enough) if mended == 0 else None
        if more is not None:
            again = claims.of_difference("c", more, unit="i", measure="m", expected=expected)
            assert again.verdict in (N, S)
    else:
        assert np.isnan(one.needed)


def test_rows_of_one_image_do_not_count_as_images() -> None:
    """20 images under 60 corruptions, without a change, show nothing about 1 point."""
    rows = pd.DataFrame({"id": np.repeat(np.arange(20), 60), "domain": np.tile(np.arange(60), 20)})
    both = pd.concat([rows.assign(step=step, correct=True) for step in (0, 1)])
    row = results.paired_difference(both, method_column="step", baseline=0).iloc[0]
    assert row["n"] == 1200 and row["effective_n"] == pytest.approx(20)
    one = claims.of_difference("c", row, unit="pairs", measure="m", expected="zero")
    assert one.verdict == U and one.needed > 1200


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
    assert rows.loc[0, ["n", "unit", "margin"]].tolist() == [100, "images", 0.01]
    path = store.path(unit)
    written = path.stat().st_mtime_ns
    claims.keep(store, unit, some())
    assert path.stat().st_mtime_ns == written
    assert claims.keep(store, unit, some(0.06)).loc[0, "high"] == 0.06
    assert path.stat().st_mtime_ns != written
    assert results.load(tmp_path)["unit"].tolist() == ["images", "classes"]


@pytest.mark.parametrize(("n", "verdict"), [(4, U), (150, U), (151, S)])
def test_an_interval_without_width_is_widened(n: int, verdict: str) -> None:
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
    again = [claims.table([claims.of_row(row)]) for _, row in found.iterrows()]
    again = pd.concat(again, ignore_index=True)
    pd.testing.assert_frame_equal(again, found[list(claims.COLUMNS)])


def test_of_values_is_decided_by_students_interval() -> None:
    found = claims.of_values("x", [0.2, 0.3, 0.4], unit="layers", measure="m")
    assert found.n == 3 and found.estimate == pytest.approx(0.3) and found.verdict == S
    half = stats.t.ppf(0.975, 2) * 0.1 / np.sqrt(3)
    assert [found.low, found.high] == pytest.approx([0.3 - half, 0.3 + half]) and found.df == 2
    assert claims.of_values("x", [0.2, 0.3], unit="layers", measure="m").verdict == U
    same = claims.of_values(
        "x", [0.0] * 10, unit="layers", measure="m", expected="zero", margin=0.1
    )
    assert same.verdict == U  # ten equal values leave 0.3 open


def test_values_of_one_stream_are_one_value() -> None:
    values, stream = [0.2, 0.3, 0.2, 0.3, 0.4, 0.4], [0, 0, 0, 1, 1, 1]
    two = claims.of_values("x", values, stream, unit="streams", measure="m")
    assert two.n == 2 and two.verdict == U
    one = claims.of_values("x", values, [0] * 6, unit="streams", measure="m")
    assert one.n == 1 and np.isnan(one.low) and one.verdict == U
