"""Exponents of growth are slopes of logarithms; the quantities really set what they name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from tttlib.bench import growth
from tttlib.runtime import memory
from tttlib.runtime.devices import best_device


def test_exponents_of_known_growth() -> None:
    sizes = np.array([2.0, 4, 8])
    assert growth.exponents(sizes, np.stack([5 * sizes, sizes**2])) == pytest.approx([1, 2])


def numbers(device: torch.device, size: int) -> Callable[[], object]:
    """`size` million numbers, once."""
    return partial(torch.ones, size * 10**6, device=device)


def test_rows_and_figure(tmp_path: Path) -> None:
    work = growth.Quantity((1, 2, 50), numbers)
    table = growth.report(growth.bench_growth({"numbers": work}, rounds=2), tmp_path)
    assert list(table["size"]) == [1, 2, 50] and table["times"].iloc[0] == 1
    if memory.peak(best_device()):  # where the system tells
        assert 180 < table["memory"].iloc[-1] < 260  # 200 MB of numbers
    assert table["exponent"].nunique() == 1
    assert (tmp_path / "figures" / "bench_growth.svg").exists()
    assert (tmp_path / "tables" / "bench_growth.csv").exists()


@pytest.mark.parametrize("name", growth.QUANTITIES)
def test_every_quantity_can_be_worked_on(name: str) -> None:
    quantity = growth.QUANTITIES[name]
    assert list(quantity.sizes) == sorted(set(quantity.sizes))
    quantity.work(torch.device("cpu"), quantity.sizes[0])()
