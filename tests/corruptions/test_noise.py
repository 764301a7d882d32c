"""Distributions of the noises."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from tttlib.corruptions import corrupt, poisson


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
    random = torch.Generator().manual_seed(0)
    first, second = torch.rand(2, n, generator=random)
    found = poisson.counts(torch.full((n,), value), scale, first, second).numpy()
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
    zero = torch.zeros(1000)
    assert poisson.counts(zero, 500, torch.rand(1000), torch.rand(1000)).sum() == 0
    assert corrupt(torch.zeros(1, 3, 32, 32), "shot_noise", 5).sum() == 0


def test_poisson_of_grey_levels_ignores_the_second_uniform() -> None:
    x = (torch.arange(256) / 255).repeat(8)
    first = torch.rand(len(x), generator=torch.Generator().manual_seed(0))
    a, b = (poisson.counts(x, 60, first, torch.full_like(x, v)) for v in (0.0, 0.999))
    assert torch.equal(a, b)


def test_impulses() -> None:
    grey = torch.full((4, 3, 64, 64), 0.5)
    out = corrupt(grey, "impulse_noise", 5)
    hit = out != 0.5
    assert hit.float().mean().item() == pytest.approx(0.14, abs=0.01)
    assert out[hit].unique().tolist() == [0, 1]
    assert out[hit].mean().item() == pytest.approx(0.5, abs=0.03)
    assert (hit[:, 0] & hit[:, 1]).float().mean().item() == pytest.approx(0.14**2, abs=0.01)


def test_speckle_is_proportional() -> None:
    for value in (0.1, 0.4):
        out = corrupt(torch.full((4, 3, 64, 64), value), "speckle_noise", 1)
        assert out.std().item() == pytest.approx(0.15 * value, rel=0.05)
