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
SHOT_NOISE = {  # photons counted where the image is white
    32: (500, 250, 100, 75, 50),
    64: (250, 100, 50, 30, 15),
    224: (60, 25, 12, 5, 3),
}
IMPULSE_NOISE = {  # share of values replaced by 0 or 1
    32: (0.01, 0.02, 0.03, 0.05, 0.07),
    64: (0.01, 0.02, 0.05, 0.08, 0.14),
    224: (0.03, 0.06, 0.09, 0.17, 0.27),
}
SPECKLE_NOISE = {  # standard deviation, relative to the value
    32: (0.06, 0.10, 0.12, 0.16, 0.20),
    64: (0.15, 0.20, 0.25, 0.30, 0.35),
    224: (0.15, 0.20, 0.35, 0.45, 0.60),
}


def gaussian_noise(x: Tensor, fields: Fields, std: float) -> Tensor:
    """Add n ~ N(0, std^2), independent per pixel and channel, to x [B,3,H,W] in [0,1]."""
    return x.add_(fields.normal(0.0, std, x.shape[1:]))


def shot_noise(x: Tensor, fields: Fields, photons: float) -> Tensor:
    """Return Poisson(photons * x) / photons per pixel and channel, for x [B,3,H,W] in [0,1]."""
    counts = fields.poisson(x, photons)
    return counts.div_(counts.new_full((), photons))


def impulse_noise(x: Tensor, fields: Fields, share: float) -> Tensor:
    """Replace each value by 0 or 1 with probability `share`, each channel alone.

    x is [B,3,H,W] in [0,1].
    """
    hit, salt = fields.impulses(share, x.shape[1:])
    return x.lerp_(salt, hit)


def speckle_noise(x: Tensor, fields: Fields, std: float) -> Tensor:
    """Return x * (1 + n), n ~ N(0, std^2) per pixel and channel, for x [B,3,H,W] in [0,1]."""
    return x.add_(fields.normal(0.0, std, x.shape[1:]).mul_(x))
