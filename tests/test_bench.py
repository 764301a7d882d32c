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
    with pytest.raises(ValueError, match=r"unknown benchmark 'x'; known are ttt"):
        bench.main("x")


def test_main_names_the_device(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    row = dict.fromkeys(("loop", "stacked", "ratio", "low", "high"), 1.0)
    monkeypatch.setattr(bench, "bench_ttt", lambda: [{**row, "batch_size": 8, "rounds": 1}])
    with caplog.at_level(logging.INFO):
        bench.main("ttt")
    assert "device: " in caplog.text and "masks  8: loop 1.000 s/image" in caplog.text
