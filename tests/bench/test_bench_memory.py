"""The benchmark of memory: what a method holds, and that it does not grow along a stream."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from tttlib import adapt
from tttlib.bench import adaptation_memory as bench_memory
from tttlib.models import zoo

METHODS = [name for name in adapt.NAMES if name != "palm_ttt"]  # learns from one image at a time


def test_held_counts_bytes() -> None:
    state = {"a": torch.zeros(3), "b": [{"c": torch.zeros(2, dtype=torch.float64)}], "d": 1}
    assert bench_memory.held(state) == 12 + 16


def test_a_row_says_what_a_method_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process here: that of its own costs a start for each method."""
    case = bench_memory.Case("wrn-scenes", batch_size=2, early=1, batches=2)
    monkeypatch.setattr(bench_memory, "ProcessPoolExecutor", lambda *_, **__: ThreadPoolExecutor(1))
    rows = {row["method"]: row for row in bench_memory.bench_memory(case, ["cotta"])}
    assert rows["source"]["kept"] < 1e-2 and rows["source"]["over source"] == 1
    net = bench_memory.held(zoo.load("wrn-scenes").state_dict()) / 1e6
    assert rows["cotta"]["kept"] > 2 * net  # a teacher and an anchor beside the student


def test_growth_is_that_of_the_floor() -> None:
    kept_for_a_while = [100.0, 300, 100, 100, 100, 100, 100, 100, 300]
    assert bench_memory.growth(kept_for_a_while) == 0
    assert bench_memory.growth([100 + 5 * i for i in range(9)]) == 5 * 6
    assert bench_memory.growth([100, 107]) == 7


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_resident_memory_is_flat(method: str) -> None:
    case = bench_memory.Case("wrn-scenes", batch_size=20, early=10, batches=60)
    row = list(bench_memory.bench_memory(case, [method]))[-1]
    assert row["growth"] < 0.05 * row["peak"] + 10
