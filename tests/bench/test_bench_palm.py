"""The benchmark of adaptation: what it times really runs, FLOPs are those of the arithmetic."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tttlib import bench
from tttlib.bench import adaptation_speed as bench_palm
from tttlib.bench.adaptation_speed import PLAIN, Case

METHODS = ("source", "tent", "palm")


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    cases = [Case("wrn-scenes", 8, threshold=1e9), Case("wrn-scenes", 8, threshold=0.0)]
    return list(bench_palm.bench_palm(cases, rounds=2, methods=METHODS))


def test_rows_belong_together(rows: list[dict[str, Any]]) -> None:
    assert [row["method"] for row in rows] == [PLAIN, *METHODS] * 2
    for row in rows:
        assert 0 < row["forwards, low"] <= row["forwards"] <= row["forwards, high"]
        assert ("ratio" in row) == (row["method"] == "palm")
    everything, nothing = rows[3], rows[7]
    assert everything["share moving"] == 1 and nothing["share moving"] == 0
    assert everything["difference"] < 1e-9 and nothing["difference"] < 1e-9
    assert nothing["ratio, low"] <= nothing["ratio"] <= nothing["ratio, high"]


def test_a_method_with_a_warm_up_is_timed_after_it() -> None:
    rows = list(bench_palm.bench_palm([Case("wrn-scenes", 8)], rounds=1, methods=("ecotta",)))
    assert [row["method"] for row in rows] == [PLAIN, "ecotta"]
    assert 1 < rows[1]["GFLOP"] / rows[0]["GFLOP"] * 8 < 8


def test_flops_are_those_of_the_passes(rows: list[dict[str, Any]]) -> None:
    """A backward pass is two forward passes but for the images' own gradient."""
    plain, source, tent, everything, *_, nothing = (row["GFLOP"] for row in rows)
    assert 7 < plain / source < 8
    assert everything == pytest.approx(plain, rel=0.01)  # but for the blur of the views
    assert 1.5 < tent / source < 2  # no gradients of convolutions' weights
    assert 2 < nothing / source < 2.5  # forward, gradients of activations, a part of the weights'


def test_the_table_is_written(
    rows: list[dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(bench_palm, "bench_palm", lambda: iter(rows))
    with caplog.at_level(logging.INFO):
        bench.main("palm", tmp_path)
    assert "wrn-scenes, 8 images, tent: " in caplog.text and "times as fast" in caplog.text
    assert len(pd.read_csv(tmp_path / "tables" / "bench_palm.csv")) == 8


def test_a_method_without_meaning_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    case = Case("mae-scenes", 4)
    with caplog.at_level(logging.INFO):
        rows = list(bench_palm.bench_palm([case], rounds=1, methods=("bn1", "tent")))
    assert [row["method"] for row in rows] == [PLAIN, "tent"]
    assert "bn1 is left out: bn1 replaces" in caplog.text
