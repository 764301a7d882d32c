"""The benchmark: both implementations really run, and the numbers belong together."""

from __future__ import annotations

import logging

import pytest

from tttlib import bench


def test_an_unknown_target_is_named() -> None:
    with pytest.raises(ValueError, match=r"unknown benchmark 'x'; known are ttt, palm, memory"):
        bench.main("x")


def test_corruptions_are_timed_in_pairs() -> None:
    pytest.importorskip("cv2", reason="the obvious implementation needs OpenCV")
    rows = list(bench.corruption_speed.bench_corruptions([32], ["fog", "glass_blur"], rounds=1))
    assert [row["corruption"] for row in rows] == ["fog", "glass_blur"]
    for row in rows:
        assert row["ours"] / row["plain"] == pytest.approx(row["ratio"])
    assert rows[1]["ratio"] > 1  # a loop over pixels against none: hundreds of times


def test_report_gives_the_geometric_mean(caplog: pytest.LogCaptureFixture) -> None:
    row = {"size": 64, "corruption": "fog", "ours": 1.0, "plain": 1.0, "low": 1.0, "high": 1.0}
    with caplog.at_level(logging.INFO):
        bench.corruption_speed.report(iter([{**row, "ratio": 2.0}, {**row, "ratio": 8.0}]))
    assert "64 geometric mean of 2 ratios: 4.0" in caplog.text
