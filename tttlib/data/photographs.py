"""A few photographs at any size, from scikit-image's wheel: to time with, and for galleries."""

from __future__ import annotations

import numpy as np
import torch
from skimage import data
from skimage.transform import resize
from torch import Tensor


def pictures(size: int, count: int) -> Tensor:
    """Return crops of two photographs, mirrored and turned: uint8 [count,3,size,size]."""
    sources = (data.astronaut(), data.chelsea())
    squares = [source[: min(source.shape[:2]), : min(source.shape[:2])] for source in sources]
    small = [resize(s, (size, size), anti_aliasing=True) for s in squares]
    images = torch.stack([torch.from_numpy((s * 255).astype(np.uint8)) for s in small])
    images = images.movedim(-1, 1)  # [2,3,S,S]
    turned = torch.cat([torch.rot90(images, k, (2, 3)) for k in range(4)])
    return turned.repeat(-(-count // len(turned)), 1, 1, 1)[:count].contiguous()
