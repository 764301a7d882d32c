"""Distributions of the noises."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from tttlib.corruptions import corrupt, poisson
from tttlib.corruptions.counter import make_key
from tttlib.corruptions.fields import CounterFields


@pytest.mark.parametrize(("severity", "std"), [(1, 0.04), (2.5, 0.07), (5, 0.10)])
def test_gaussian_noise_law(severity: float, std: float) -> None:
    flat = torch.full((8, 3, 32, 32), 0.5)
    noise = (corrupt(flat, "gaussian_noise", severity) - 0.5).double()
    assert stats.kstest(noise.flatten().numpy(), stats.norm(0, std).cdf).pvalue > 0.01
    channels = torch.corrcoef(noise.movedim(1, 0).flatten(1))
    assert (channels - torch.eye(3)).abs().max() < 0.05


@pytest.mark.parametrize("scale", [3, 60, 500])
@pytest.mark.parametrize("value", [0.2, 1.0, 0.5013])  # the last one lies between grey levels
def test_poisson(scale: float, value: float) -> None:
    n = 200_000
    fields = CounterFields(make_key("poisson", scale, value), torch.arange(2))
    found = fields.poisson(torch.full((2, n // 2), value), scale).flatten().numpy()
    rate = scale * (round(value * 255) / 255 if abs(value * 255 % 1) < 1e-3 else value)
    low, high = (int(stats.poisson.ppf(q, rate)) for q in (0.001, 0.999))
    edges = np.arange(low, high + 1)
    observed = np.bincount(found.clip(low - 1, high + 1).astype(int) - low + 1)
    inner = stats.poisson.pmf(edges, rate)
    outer = [stats.poisson.cdf(low - 1, rate), stats.poisson.sf(high, rate)]
    expected = n * np.concatenate([outer[:1], inner, outer[1:]])
    observed = np.pad(observed, (0, len(expected) - len(observed)))
    some = expected > 5
    statistic = ((observed - expected)[some] ** 2 / expected[some]).sum()
    assert stats.chi2.sf(statistic, some.sum() - 1) > 1e-3


def test_poisson_black_stays_black() -> None:
    assert corrupt(torch.zeros(1, 3, 32, 32), "shot_noise", 5).sum() == 0


@pytest.mark.parametrize("scale", [3, 87.5, 500])
def test_alias_tables_hold_the_law(scale: float) -> None:
    """Every level's probabilities, added up over columns and aliases."""
    entries, bits = poisson._table(scale)
    columns = 2**bits
    share = (entries >> poisson._ALIAS_BITS).view(256, columns).double() / 2**poisson._SHARE_BITS
    alias = (entries & (2**poisson._ALIAS_BITS - 1)).view(256, columns).long()
    found = share.scatter_add(1, alias, 1 - share) / columns
    rates = np.arange(256)[:, None] * scale / 255
    expected = stats.poisson.pmf(np.arange(columns), rates)
    assert np.abs(found.numpy() - expected).max() < 1e-6
    assert np.abs((found.numpy() * np.arange(columns)).sum(1) - rates[:, 0]).max() < 1e-3


def test_fractions_of_one_image_leave_its_neighbour_alone() -> None:
    """A batch of whole grey levels draws one word a value, any other two."""
    levels = torch.randint(0, 256, (2, 3, 16, 16)) / 255
    mixed = torch.stack([levels[0], (levels[1] + 0.001).clamp(max=1)])
    alone, beside = corrupt(levels, "shot_noise", 3), corrupt(mixed, "shot_noise", 3)
    assert torch.equal(alone[0], beside[0]) and not torch.equal(alone[1], beside[1])


def test_rates_beyond_the_tables_are_refused() -> None:
    with pytest.raises(ValueError, match="rate of 2000 photons is beyond the tables"):
        poisson._table(2000)


def test_impulses() -> None:
    grey = torch.full((4, 3, 64, 64), 0.5)
    out = corrupt(grey, "impulse_noise", 5)
    hit = out != 0.5
    assert hit.float().mean().item() == pytest.approx(0.14, abs=0.01)
    assert out[hit].unique().tolist() == [0, 1]
    assert out[hit].mean().item() == pytest.approx(0.5, abs=0.03)
    assert (hit[:, 0] & hit[:, 1]).float().mean().item() == pytest.approx(0.14**2, abs=0.01)
