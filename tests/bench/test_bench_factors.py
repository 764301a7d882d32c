"""Weights per image and factors per image are the same numbers."""

from __future__ import annotations

import pytest
import torch

from tttlib.bench import factors as bench_factors


def test_both_ways_give_the_same() -> None:
    random = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=random, dtype=torch.float64)

    weight, x, dy, whole = draw(5, 3), draw(4, 2, 6, 3), 100 * draw(4, 2, 6, 5), draw(2, 7, 3)
    dense = bench_factors.own_weights(weight, x, dy, whole)
    low_rank = bench_factors.factors(weight, x, dy, whole)
    torch.testing.assert_close(torch.stack(low_rank), torch.stack(dense), atol=1e-10, rtol=0)
    assert (dense[-1] - whole @ weight.t()).abs().max() > 0.1


def test_arithmetic_of_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_factors, "ROUNDS", 1)
    rows = list(bench_factors.bench_factors(16, 32, steps=3, images=2, tokens=5))
    assert [(row["masks"], row["predicted"]) for row in rows] == [(1, 20), (1, 0), (8, 20), (8, 0)]
    dense, factors = rows[1]["GFLOP weights"], rows[1]["GFLOP factors"]
    assert dense == pytest.approx(2 * 2e-9 * 3 * 15 * 512)
    ranks = 0 + 5 + 10
    assert factors == pytest.approx(2 * 2e-9 * (3 * 10 * 512 + 10 * ranks * 48))
    assert all(row["ratio"] > 0 for row in rows)
