"""Separable linear filters and zooms, as small matrices and gathers, on [B,C,H,W]."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor


def gaussian_filter(x: Tensor, sigma: float, *, mode: str = "nearest", cut: float = 4.0) -> Tensor:
    """Gaussian smoothing over the last two axes. x: [...,H,W]; same shape.

    mode  what lies beyond the border: "nearest" (the edge) or "reflect" (d c b a | a b c d)
    cut   radius of the filter in standard deviations; radius int(cut * sigma + 0.5), 0 = identity
    """
    if int(cut * sigma + 0.5) == 0:
        return x
    height, width = x.shape[-2:]
    down, across = (_gaussian(side, sigma, mode, cut).to(x) for side in (height, width))
    return down @ x @ across.mT


@lru_cache(maxsize=64)
def _gaussian(side: int, sigma: float, mode: str, cut: float) -> Tensor:
    """The filter along one axis as a matrix, float64 [side,side]."""
    radius = int(cut * sigma + 0.5)
    offsets = np.arange(-radius, radius + 1)
    taps = np.exp(-(offsets**2) / (2 * sigma**2))
    taps /= taps.sum()
    source = np.arange(side)[:, None] + offsets  # [side,taps]
    if mode == "nearest":
        source = source.clip(0, side - 1)
    else:
        source = source % (2 * side)
        source = np.minimum(source, 2 * side - 1 - source)
    matrix = np.zeros((side, side))
    np.add.at(matrix, (np.arange(side)[:, None], source), np.broadcast_to(taps, source.shape))
    return torch.from_numpy(matrix)


def zooms(side: int, factor: float) -> tuple[int, int, int, int]:
    """(crop, top, out, trim) in pixels: enlarge the crop to `out`, then trim back to `side`."""
    crop = math.ceil(side / factor)
    out = round(crop * factor)
    return crop, (side - crop) // 2, out, (out - side) // 2


def clipped_zoom(x: Tensor, factor: float) -> Tensor:
    """Enlarged about its centre and cut to its old size, linearly. x: [...,H,W]."""
    height, width = x.shape[-2:]
    x = resample(x.mT.contiguous(), *zooms(width, factor)).mT.contiguous()
    return resample(x, *zooms(height, factor))


def resample(x: Tensor, crop: int, top: int, out: int, trim: int) -> Tensor:
    """The rows of `x` [...,N,M], cropped, linearly resized and trimmed back to N."""
    first, weight = _taps(x.shape[-2], crop, top, out, trim)
    first, weight = first.to(x.device), weight.to(x)
    return torch.lerp(x.index_select(-2, first), x.index_select(-2, first + 1), weight)


@lru_cache(maxsize=512)
def _taps(side: int, crop: int, top: int, out: int, trim: int) -> tuple[Tensor, Tensor]:
    """First source row int64 [side] and weight of the next one float64 [side,1]."""
    position = torch.arange(out, dtype=torch.float64) * ((crop - 1) / (out - 1))
    first = position.long().clamp_(max=crop - 2)
    kept = slice(trim, trim + side)
    return (first + top)[kept], (position - first)[kept, None]


def box3(x: Tensor) -> Tensor:
    """Sum over 3x3, border mirrored without the edge. x: [B,H,W], any dtype."""
    padded = mirror(x, 1)
    rows = padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]
    return rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]


def mirror(x: Tensor, border: int) -> Tensor:
    """Padded by c b | a b c without repeating the edge, over the last two axes; any dtype."""
    for axis in (-2, -1):
        side = x.shape[axis]
        index = torch.arange(-border, side + border, device=x.device).abs()
        x = x.index_select(axis, torch.minimum(index, 2 * (side - 1) - index))
    return x
