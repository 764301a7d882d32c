"""Quality and exactness of the counter-based generator."""

from __future__ import annotations

import pytest
import torch
from scipy import stats

from tttlib.corruptions.counter import make_key, words
from tttlib.corruptions.fields import CounterFields

KEY = make_key("test", 1, 0)


def plain_splitmix(state: int) -> int:
    """SplitMix64's output function with Python's unbounded integers."""
    mask = 2**64 - 1
    z = state & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return z ^ (z >> 31)


def plain_word(stream: int, position: int) -> int:
    """A word of a stream, likewise."""
    mask = 2**32 - 1
    z = (position + stream) & mask
    z = ((z ^ (z >> 16)) * 0x7FEB352D + (stream >> 32)) & mask
    z = ((z ^ (z >> 15)) * 0x846CA68B) & mask
    return z ^ (z >> 16)


def test_words_equal_plain_integers() -> None:
    outputs = [plain_splitmix(n * 0x9E3779B97F4A7C15) for n in (1, 2, 3)]  # as published
    assert outputs == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    ids = torch.tensor([0, 1, -5, 2**62])
    found = words(KEY, ids, 3, 4)
    assert found.dtype == torch.int32
    for row, image in zip(found.tolist(), ids.tolist(), strict=True):
        stream = plain_splitmix(image * 0x9E3779B97F4A7C15 + KEY)
        expected = [plain_word(stream, position) for position in (3, 4, 5, 6)]
        assert [word & (2**32 - 1) for word in row] == expected


def bits(word: torch.Tensor) -> torch.Tensor:
    """0 and 1, float64 [..., 32]."""
    return ((word[..., None] >> torch.arange(32)) & 1).double()


def test_every_bit_is_fair_and_independent() -> None:
    """Of each other, of the next position, of the next id and of the next seed."""
    ids, n = torch.arange(100), 1000
    base = bits(words(KEY, ids, 0, n)).flatten(0, 1) - 0.5  # [100000,32]
    limit = 5 * 0.5 / len(base) ** 0.5  # five standard errors
    assert base.mean(0).abs().max() < limit
    within = base.T @ base / len(base) * 2
    assert (within - 0.5 * torch.eye(32)).abs().max() < limit
    next_seed = make_key("test", 1, 1)
    for other in (words(KEY, ids, 1, n), words(KEY, ids + 1, 0, n), words(next_seed, ids, 0, n)):
        crossed = base.T @ (bits(other).flatten(0, 1) - 0.5) / len(base) * 2
        assert crossed.abs().max() < limit


def test_streams_share_no_stretch() -> None:
    """A word in common is chance: as many as 32 random bits give, and never two in a row."""
    table = words(KEY, torch.arange(40), 0, 5000).long()
    pairs = (table[:, :-1] << 32) ^ (table[:, 1:] & (2**32 - 1))
    assert len(pairs.unique()) == pairs.numel()
    repeated = table.numel() - len(table.unique())
    assert repeated < 20  # 4.7 expected


def test_key_is_the_same_in_every_process() -> None:
    assert make_key("gaussian_noise", 3_000_000, 0) == -1602977339063020473
    keys = {make_key(name, level, seed) for name in "ab" for level in range(9) for seed in range(9)}
    assert len(keys) == 162


def test_position_advances() -> None:
    ids = torch.arange(3)
    fields = CounterFields(KEY, ids)
    first, second = fields.uniform(0, 1, (5,)), fields.uniform(0, 1, (5,))
    assert not torch.equal(first, second)
    assert torch.equal(CounterFields(KEY, ids).uniform(0, 1, (10,)), torch.cat([first, second], 1))


def test_distributions() -> None:
    """Kolmogorov-Smirnov, mean and variance of 200,000 draws over many ids, and of one for each."""
    ids = torch.arange(2000)
    uniform = CounterFields(KEY, ids).uniform(-45.0, 45.0, (101,)).flatten()
    normal = CounterFields(KEY, ids).normal(1.0, 2.0, (101,)).flatten()
    assert stats.kstest(uniform.double().numpy(), stats.uniform(-45, 90).cdf).pvalue > 0.01
    assert stats.kstest(normal.double().numpy(), stats.norm(1, 2).cdf).pvalue > 0.01
    assert uniform.min() >= -45 and uniform.max() < 45
    assert normal.mean().item() == pytest.approx(1, abs=0.02)
    assert normal.std().item() == pytest.approx(2, abs=0.015)
    assert normal.isfinite().all()
    angle = CounterFields(KEY, torch.arange(20_000)).uniform(0, 1)
    assert stats.kstest(angle.double().numpy(), "uniform").pvalue > 0.01
    assert torch.corrcoef(torch.stack([angle[:-1], angle[1:]]))[0, 1].abs() < 0.03


def test_neighbours_are_uncorrelated() -> None:
    """Neighbouring ids, positions and seeds: |r| < 5 / sqrt(n)."""
    z = CounterFields(KEY, torch.arange(300)).normal(0, 1, (300,))  # [ids,positions]
    other = CounterFields(make_key("test", 1, 1), torch.arange(300)).normal(0, 1, (300,))
    pairs = {
        "ids": (z[:-1], z[1:]),
        "positions": (z[:, :-1], z[:, 1:]),
        "seeds": (z, other),
        "halves": (z[:, :150], z[:, 150:]),
        "sizes": (z[:, :-1].abs(), z[:, 1:].abs()),
    }
    for name, (a, b) in pairs.items():
        r = torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1].abs()
        assert r < 5 / a.numel() ** 0.5, name
