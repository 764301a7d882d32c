"""gaussian_noise: law and interpolation of the standard deviation."""

from __future__ import annotations

import pytest
import torch
from scipy import stats

from tttlib.corruptions import corrupt


@pytest.mark.parametrize(("severity", "std"), [(1, 0.04), (2.5, 0.07), (5, 0.10)])
def test_gaussian_noise_law(severity: float, std: float) -> None:
    flat = torch.full((8, 3, 32, 32), 0.5)
    noise = (corrupt(flat, "gaussian_noise", severity) - 0.5).double()
    assert stats.kstest(noise.flatten().numpy(), stats.norm(0, std).cdf).pvalue > 0.01
    channels = torch.corrcoef(noise.movedim(1, 0).flatten(1))
    assert (channels - torch.eye(3)).abs().max() < 0.05
