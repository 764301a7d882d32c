"""Noise corruptions of ImageNet-C (Hendrycks and Dietterich, ICLR 2019, arXiv 1903.12261)."""

from __future__ import annotations

from torch import Tensor

from tttlib.corruptions.fields import Fields

# Parameters of severities 1..5 by image size.
GAUSSIAN_NOISE = {  # standard deviation, in units of the full range
    32: (0.04, 0.06, 0.08, 0.09, 0.10),
    64: (0.04, 0.08, 0.12, 0.15, 0.18),
    224: (0.08, 0.12, 0.18, 0.26, 0.38),
}


def gaussian_noise(x: Tensor, fields: Fields, std: float) -> Tensor:
    """x + n, n ~ N(0, std^2) independent per pixel and channel. x: [B,3,H,W] in [0,1]."""
    noise = fields.normal(0.0, std, (*x.shape[2:], 3))  # [B,H,W,3], the reference's layout
    return x + noise.movedim(-1, 1)
