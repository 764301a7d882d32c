"""Digital corruptions of ImageNet-C (Hendrycks and Dietterich, ICLR 2019, arXiv 1903.12261)."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from tttlib.corruptions.fields import Fields

# Parameters of severities 1..5 by image size.
CONTRAST = {  # factor on the distance from the mean
    32: (0.75, 0.5, 0.4, 0.3, 0.15),
    64: (0.4, 0.3, 0.2, 0.1, 0.05),
    224: (0.4, 0.3, 0.2, 0.1, 0.05),
}
PIXELATE = {  # side of the small image relative to the side of the image
    32: (0.95, 0.9, 0.85, 0.75, 0.65),
    64: (0.9, 0.8, 0.7, 0.6, 0.5),
    224: (0.6, 0.5, 0.4, 0.3, 0.25),
}


def contrast(x: Tensor, fields: Fields, factor: float) -> Tensor:
    """Scale the distance from the mean of each image and channel: (x - mean) * factor + mean.

    x is [B,3,H,W] in [0,1].
    """
    mean = x.mean((2, 3), keepdim=True, dtype=torch.float64).to(x.dtype)  # [B,3,1,1]
    return x.sub_(mean).mul_(factor).add_(mean)


def pixelate(x: Tensor, fields: Fields, ratio: float) -> Tensor:
    """Resize with a box filter to int(ratio * side) pixels and back, in grey levels.

    x is [B,3,H,W] in [0,1]; values between grey levels are rounded first. This follows PIL: rows
    first, rounded to grey levels after each pass. The way back only copies pixels.
    """
    levels = x.mul_(255).round_()
    indices = []
    for side in (x.shape[3], x.shape[2]):
        small = max(1, int(ratio * side))
        shrink, grow = _box(side, small).to(x), _box(small, side).argmax(1).to(x.device)
        levels = (levels @ shrink.T).add_(0.5).floor_().mT  # axes swap: [B,3,small,*]
        indices.append(grow)
    columns, rows = indices  # levels is [B,3,small,small]
    levels = levels.index_select(2, rows).index_select(3, columns)
    return levels.div_(levels.new_full((), 255))


@lru_cache(maxsize=64)
def _box(source: int, target: int) -> Tensor:
    """Return PIL's BOX resampling as a matrix, float64 [target,source].

    The taps are the source pixels whose centres lie within half a filter width. Their weights are
    equal, without fractional areas, so that enlarging selects a single pixel.
    """
    scale = source / target
    width = max(scale, 1.0)
    matrix = np.zeros((target, source))
    for i in range(target):
        centre = (i + 0.5) * scale
        first = max(int(centre - 0.5 * width + 0.5), 0)
        taps = np.arange(first, min(int(centre + 0.5 * width + 0.5), source))
        offset = (taps - centre + 0.5) / width
        matrix[i, taps] = (offset > -0.5) & (offset <= 0.5)
    return torch.from_numpy(matrix / matrix.sum(1, keepdims=True))
