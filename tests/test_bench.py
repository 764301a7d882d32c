"""The benchmark: both implementations really run, and the numbers belong together."""

from __future__ import annotations

import logging

import pytest

from tttlib import bench


def test_rows_hold_times_and_their_ratio(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int | None] = []
    run = bench.ttt.run

    def spy(*args: object, parallel: int | None, **options: object) -> object:
        seen.append(parallel)
        return run(*args, parallel=parallel, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(bench.ttt, "run", spy)
    rows = bench.bench_ttt(steps=1, images=4, rounds=1)
    assert [row["batch_size"] for row in rows] == [1, 8, 32]
    assert set(seen) == {1, None}
    for row in rows:
        assert row["loop"] > 0 and row["stacked"] > 0
        assert row["low"] <= row["ratio"] <= row["high"]


def test_an_unknown_target_is_named() -> None:
    with pytest.raises(
        ValueError, match=r"unknown benchmark 'x'; known are ttt, corruptions, data"
    ):
        bench.main("x")


def test_main_names_the_device(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    row = dict.fromkeys(("loop", "stacked", "ratio", "low", "high"), 1.0)
    monkeypatch.setattr(bench, "bench_ttt", lambda: [{**row, "batch_size": 8, "rounds": 1}])
    with caplog.at_level(logging.INFO):
        bench.main("ttt")
    assert "device: " in caplog.text and "masks  8: loop 1.000 s/image" in caplog.text


def test_corruptions_are_timed_in_pairs() -> None:
    pytest.importorskip("cv2", reason="the obvious implementation needs OpenCV")
    rows = list(bench.bench_corruptions.bench_corruptions([32], ["fog", "glass_blur"], rounds=1))
    assert [row["corruption"] for row in rows] == ["fog", "glass_blur"]
    for row in rows:
        assert row["ours"] / row["plain"] == pytest.approx(row["ratio"])
    assert rows[1]["ratio"] > 5  # a loop over pixels against none


def test_report_gives_the_geometric_mean(caplog: pytest.LogCaptureFixture) -> None:
    row = {"size": 64, "corruption": "fog", "ours": 1.0, "plain": 1.0, "low": 1.0, "high": 1.0}
    with caplog.at_level(logging.INFO):
        bench.bench_corruptions.report(iter([{**row, "ratio": 2.0}, {**row, "ratio": 8.0}]))
    assert "64 geometric mean of 2 ratios: 4.0" in caplog.text
