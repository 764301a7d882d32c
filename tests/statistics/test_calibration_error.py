"""Calibration by hand, and that its intervals hold what they should."""

from __future__ import annotations

import numpy as np
import pytest

from tttlib.statistics import calibration_bins, calibration_error, paired_calibration

# Bins (12/15, 13/15]: 0.82, 0.84, 0.86 with two right; (6/15, 7/15]: 0.42, 0.44 with none.
CONFIDENCE = [0.82, 0.84, 0.86, 0.42, 0.44]
CORRECT = [1, 1, 0, 0, 0]
BY_HAND = 3 / 5 * (0.84 - 2 / 3) + 2 / 5 * 0.43


def test_a_case_by_hand() -> None:
    assert calibration_error(CONFIDENCE, CORRECT).mean == pytest.approx(BY_HAND)
    bins = calibration_bins(CONFIDENCE, CORRECT)
    assert bins["n"].tolist() == [0] * 6 + [2] + [0] * 5 + [3, 0, 0]
    assert bins["accuracy"][12] == pytest.approx(2 / 3) and bins["confidence"][6] == 0.43
    assert np.isnan(bins["accuracy"][0]) and bins["high"][-1] == 1 and bins["low"][6] == 0.4


def test_an_edge_belongs_to_the_bin_below() -> None:
    edges = [0.0, 1 / 15, 0.2, 0.2 + 1e-9, 1.0]
    assert np.flatnonzero(calibration_bins(edges, [1] * 5)["n"]).tolist() == [0, 2, 3, 14]
    assert calibration_bins(edges, [1] * 5)["n"][0] == 2


def test_errors_of_one_bin_cancel_and_those_of_two_do_not() -> None:
    assert calibration_error([0.75, 0.75, 0.75, 0.75], [1, 1, 1, 0]).mean == 0
    assert calibration_error([0.5, 1.0], [1, 0]).mean == pytest.approx(0.75)
    assert calibration_error([1.0, 1.0], [1, 1])[:3] == (0, 0, 0)


def answers(
    n: int, shift: float, seed: int, each: int = 1
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Confidences that are too high by `shift`; each image is there so many times."""
    random = np.random.default_rng(seed)
    confidence = random.uniform(0.4, 1, n)
    right = random.random(n) < confidence - shift
    return confidence.repeat(each), right.repeat(each).astype(float), np.arange(n).repeat(each)


def test_the_interval_covers_the_truth() -> None:
    found = [calibration_error(*answers(400, 0.15, s)[:2], resamples=200) for s in range(100)]
    hits = sum(one.low <= 0.15 <= one.high for one in found)
    assert 90 <= hits <= 100 and all(0 <= one.low <= one.mean <= one.high for one in found)
    assert np.mean([one.high - one.low for one in found]) < 0.12


def test_copies_of_an_image_are_no_further_images() -> None:
    confidence, right, image = answers(300, 0.1, 0, each=4)
    alone = calibration_error(confidence[::4], right[::4])
    copied = calibration_error(confidence, right, [image])
    assert copied.mean == pytest.approx(alone.mean) and copied.n == 1200
    assert copied.high - copied.low == pytest.approx(alone.high - alone.low, rel=0.1)
    careless = calibration_error(confidence, right)
    assert careless.high - careless.low < 0.7 * (copied.high - copied.low)
    crossed = calibration_error(confidence, right, [image, np.arange(1200) % 7])
    assert crossed.mean == pytest.approx(alone.mean) and crossed.high > copied.high


def test_differences_are_paired() -> None:
    confidence, right, image = answers(400, 0.15, 1)
    better = np.clip(confidence - 0.1, 0, 1)
    change = paired_calibration((confidence, right), (better, right), [image])
    gain = calibration_error(better, right).mean - calibration_error(confidence, right).mean
    assert change.mean == pytest.approx(gain) and change.low < change.mean < change.high < 0
    back = paired_calibration((better, right), (confidence, right), [image])
    assert back.mean == -change.mean and back.low == pytest.approx(-change.high)
    assert paired_calibration((confidence, right), (confidence, right))[:3] == (0, 0, 0)


@pytest.mark.parametrize(
    ("confidence", "correct", "message"),
    [
        ([], [], "N > 0 images"),
        ([0.5], [1, 0], "got shapes \\(1,\\) and \\(2,\\)"),
        ([0.5, 1.2], [1, 0], "must lie in \\[0,1\\]"),
        ([0.5, float("nan")], [1, 0], "earlier version have no confidence"),
        ([0.5, 0.6], [1, 2], "must lie in"),
    ],
)
def test_bad_answers_are_refused(confidence: list, correct: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        calibration_error(confidence, correct)


def test_bad_options_are_refused() -> None:
    with pytest.raises(ValueError, match="0 < level < 1"):
        calibration_error(CONFIDENCE, CORRECT, level=1)
    with pytest.raises(ValueError, match="all values lie in one cluster"):
        calibration_error(CONFIDENCE, CORRECT, [[3] * 5])
    with pytest.raises(ValueError, match="5 values but clusters of shape"):
        calibration_error(CONFIDENCE, CORRECT, [[3] * 4])
    with pytest.raises(ValueError, match="pairs need equal lengths, got 5 and 2"):
        paired_calibration((CONFIDENCE, CORRECT), ([0.5, 0.6], [1, 0]))
