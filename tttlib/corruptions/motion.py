"""Motion blur as ImageMagick does it (used by motion_blur and snow of ImageNet-C).

Hendrycks and Dietterich, ICLR 2019, arXiv 1903.12261; MotionBlurImage of ImageMagick 6, Q16.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tttlib.corruptions.fields import Fields
from tttlib.corruptions.filters import replicate, windows

# Parameters of severities 1..5 by image size.
MOTION_BLUR = {  # radius (of the cut) and sigma of the one-sided Gaussian, both in pixels
    32: ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
    64: ((10, 1), (10, 1.5), (10, 2), (10, 2.5), (12, 3)),
    224: ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
}


def motion_blur(x: Tensor, fields: Fields, radius: float, sigma: float) -> Tensor:
    """Blur with a one-sided Gaussian along a line, at one angle of U(-45, 45) degrees per image.

    x is [B,3,H,W] in [0,1]; it is rounded to grey levels first, and the last step truncates to grey
    levels.
    """
    levels = smear(x.mul_(255).round_(), fields.uniform(-45.0, 45.0), radius, sigma)
    return levels.div_(levels.new_full((), 255))


def smear(levels: Tensor, angle: Tensor, radius: float, sigma: float) -> Tensor:
    """Blur grey levels with whole-pixel taps along a line, with the edge replicated.

    Parameters
    ----------
    levels
        [B,C,H,W], whole numbers from 0 to 255.
    angle
        [B] in degrees, with y downwards.
    radius, sigma
        The cut and the standard deviation of the one-sided Gaussian in pixels.

    Returns
    -------
    Tensor
        [B,C,H,W] whole numbers, truncated from a 16-bit result.
    """
    size = 2 * math.ceil(radius) + 1
    weights = [math.exp(-(i**2) / (2 * sigma**2)) for i in range(size)]
    smallest = 1e-7 if levels.dtype == torch.float32 else 0.0
    total = math.fsum(weights)
    columns, rows = _line(angle, size)  # [B,size] each
    shifted = windows(replicate(levels, size), *levels.shape[2:])
    image = torch.arange(len(levels), device=levels.device)
    y = torch.zeros_like(levels)
    for i, weight in enumerate(w / total for w in weights):
        if weight > smallest:
            y.add_(shifted[image, size + rows[:, i], size + columns[:, i]], alpha=weight)
    sixteen_bit = y.mul_(257).add_(0.5).floor_()
    return sixteen_bit.div_(y.new_full((), 257)).floor_()


def _line(angle: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Return whole-pixel offsets (x, y), y downwards, int64 [B,size] each, for angles [B]."""
    angle = angle.double()[:, None] * math.pi / 180  # [B,1]
    across, down = size * angle.cos(), size * angle.sin()
    length = torch.hypot(down, across)
    step = torch.arange(size, device=angle.device, dtype=torch.float64)
    columns, rows = (torch.ceil(step * d / length - 0.5).long() for d in (across, down))
    return columns, rows
