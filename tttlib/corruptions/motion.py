"""Motion blur as ImageMagick does it (used by motion_blur and snow of ImageNet-C).

Hendrycks and Dietterich, ICLR 2019, arXiv 1903.12261; MotionBlurImage of ImageMagick 6, Q16.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tttlib.corruptions.fields import Fields

# Parameters of severities 1..5 by image size.
MOTION_BLUR = {  # radius (of the cut) and sigma of the one-sided Gaussian, both in pixels
    32: ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
    64: ((10, 1), (10, 1.5), (10, 2), (10, 2.5), (12, 3)),
    224: ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
}


def motion_blur(x: Tensor, fields: Fields, radius: float, sigma: float) -> Tensor:
    """One-sided Gaussian along a line at U(-45, 45) degrees, one angle per image, in grey levels.

    x: [B,3,H,W] in [0,1]. Float input is rounded to grey levels at the start; the last step
    truncates to grey levels.
    """
    levels = smear((x * 255).round(), fields.uniform(-45.0, 45.0), radius, sigma)
    return levels / levels.new_full((), 255)


def smear(levels: Tensor, angle: Tensor, radius: float, sigma: float) -> Tensor:
    """Blurred grey levels: whole-pixel taps along the line, edge replicated, 16-bit result.

    levels  [B,C,H,W], whole numbers 0..255
    angle   [B], degrees, y downwards
    """
    size = 2 * math.ceil(radius) + 1
    weights = [math.exp(-(i**2) / (2 * sigma**2)) for i in range(size)]
    smallest = 1e-7 if levels.dtype == torch.float32 else 0.0
    total = math.fsum(weights)
    columns, rows = _line(angle, size)  # [B,size] each
    count, channels, height, width = levels.shape
    lanes = 1 if channels == 1 else 4  # a pixel's bytes travel as one word
    pixels = torch.zeros(count, height, width, lanes, dtype=torch.uint8, device=levels.device)
    pixels[..., :channels] = levels.movedim(1, -1)
    words = pixels.view(torch.uint8 if lanes == 1 else torch.int32).flatten()  # [B*H*W]
    first = torch.arange(count, device=levels.device)[:, None] * (height * width)
    y = levels.new_zeros(len(words), lanes)
    for i, weight in enumerate(w / total for w in weights):
        if weight > smallest:
            start = first + _shifted(rows[:, i], height) * width  # [B,H]
            index = start[:, :, None] + _shifted(columns[:, i], width)[:, None]  # [B,H,W]
            taps = words.index_select(0, index.flatten()).view(torch.uint8).view(-1, lanes)
            y.add_(taps.to(y.dtype), alpha=weight)
    y = y.view(count, height, width, lanes)[..., :channels].movedim(-1, 1)
    sixteen_bit = (y * 257 + 0.5).floor_()
    return (sixteen_bit / y.new_full((), 257)).floor_()


def _line(angle: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Whole-pixel offsets (x, y), y downwards, for `angle` [B] in degrees: int64 [B,size]."""
    angle = angle.double()[:, None] * math.pi / 180  # [B,1]
    across, down = size * angle.cos(), size * angle.sin()
    length = torch.hypot(down, across)
    step = torch.arange(size, device=angle.device, dtype=torch.float64)
    columns, rows = (torch.ceil(step * d / length - 0.5).long() for d in (across, down))
    return columns, rows


def _shifted(offset: Tensor, side: int) -> Tensor:
    """Coordinates 0..side-1 moved by `offset` [B] and kept inside: int64 [B,side]."""
    return (torch.arange(side, device=offset.device) + offset[:, None]).clamp_(0, side - 1)
