"""Separable linear filters and zooms of [B,C,H,W], as small matrices and gathers."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


def gaussian_filter(x: Tensor, sigma: float, *, mode: str = "nearest", cut: float = 4.0) -> Tensor:
    """Smooth the last two axes of `x` [...,H,W] with a Gaussian.

    Parameters
    ----------
    x
        [...,H,W].
    sigma
        The standard deviation in pixels.
    mode
        What lies beyond the border: "nearest" (the edge) or "reflect" (d c b a | a b c d).
    cut
        The radius of the filter in standard deviations; it is int(cut * sigma + 0.5) pixels, and
        radius 0 changes nothing.
    """
    radius = int(cut * sigma + 0.5)
    if radius == 0:
        return x
    height, width = x.shape[-2:]
    if x.dtype == torch.float32 and 15 * (radius + 1) < min(height, width):
        return _smooth(_smooth(x, -2, sigma, radius, mode), -1, sigma, radius, mode)
    down, across = (_gaussian(side, sigma, mode, cut).to(x) for side in (height, width))
    return down @ x @ across.mT


def _smooth(x: Tensor, axis: int, sigma: float, radius: int, mode: str) -> Tensor:
    """Filter one axis tap by tap, which is cheaper than a matrix of which most is zero."""
    side = x.shape[axis]
    if mode == "nearest":
        padded = _replicate(x, axis, radius)
    else:  # the edge is mirrored with itself
        first, last = x.narrow(axis, 0, radius), x.narrow(axis, side - radius, radius)
        padded = torch.cat([first.flip(axis), x, last.flip(axis)], axis)
    taps = [math.exp(-(k**2) / (2 * sigma**2)) for k in range(radius + 1)]
    total = taps[0] + 2 * math.fsum(taps[1:])
    y = padded.narrow(axis, radius, side) * (taps[0] / total)
    pair = torch.empty_like(y)
    for k in range(1, radius + 1):
        before, after = (padded.narrow(axis, radius + step, side) for step in (-k, k))
        y.add_(torch.add(before, after, out=pair), alpha=taps[k] / total)
    return y


@lru_cache(maxsize=64)
def _gaussian(side: int, sigma: float, mode: str, cut: float) -> Tensor:
    """Return the filter along one axis as a matrix, float64 [side,side]."""
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
    """Return (crop, top, out, trim) in pixels of a zoom about the centre.

    `crop` pixels from `top` on are enlarged to `out` pixels, of which `trim` go at the start so
    that `side` are left.
    """
    crop = math.ceil(side / factor)
    out = round(crop * factor)
    return crop, (side - crop) // 2, out, (out - side) // 2


def clipped_zoom(x: Tensor, factor: float) -> Tensor:
    """Enlarge `x` [...,H,W] linearly about its centre and cut it to its old size."""
    height, width = x.shape[-2:]
    x = resample(x.mT.contiguous(), *zooms(width, factor)).mT.contiguous()
    return resample(x, *zooms(height, factor))


def resample(x: Tensor, crop: int, top: int, out: int, trim: int) -> Tensor:
    """Crop the rows of `x` [...,N,M], resize them linearly and trim them back to N (`zooms`)."""
    first, weight = _taps(x.shape[-2], crop, top, out, trim)
    first, weight = first.to(x.device), weight.to(x)
    return torch.lerp(x.index_select(-2, first), x.index_select(-2, first + 1), weight)


@lru_cache(maxsize=512)
def _taps(side: int, crop: int, top: int, out: int, trim: int) -> tuple[Tensor, Tensor]:
    """Return the first source row, int64 [side], and the next one's weight, float64 [side,1]."""
    position = torch.arange(out, dtype=torch.float64) * ((crop - 1) / (out - 1))
    first = position.long().clamp_(max=crop - 2)
    kept = slice(trim, trim + side)
    return (first + top)[kept], (position - first)[kept, None]


def box3(x: Tensor) -> Tensor:
    """Sum `x` [B,H,W] of any dtype over 3x3 pixels, with the border mirrored without its edge."""
    padded = mirror(x, 1)
    rows = padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]
    return rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]


def mirror(x: Tensor, border: int) -> Tensor:
    """Pad the last two axes with their mirror image c b | a b c, which leaves out the edge.

    Any dtype is taken; `border` must be below both sides.
    """
    for axis in (-2, -1):
        first = x.narrow(axis, 1, border)
        last = x.narrow(axis, x.shape[axis] - 1 - border, border)
        x = torch.cat([first.flip(axis), x, last.flip(axis)], axis)
    return x


def replicate(x: Tensor, border: int) -> Tensor:
    """Pad the last two axes with their edge; any dtype is taken."""
    return _replicate(_replicate(x, -2, border), -1, border)


def _replicate(x: Tensor, axis: int, border: int) -> Tensor:
    size = list(x.shape)
    size[axis] = border
    first, last = x.narrow(axis, 0, 1), x.narrow(axis, x.shape[axis] - 1, 1)
    return torch.cat([first.expand(size), x, last.expand(size)], axis)


def windows(padded: Tensor, height: int, width: int) -> Tensor:
    """Return every crop of `padded` [B,C,H',W'] as a view [B,H'-H+1,W'-W+1,C,H,W]."""
    count, channels, tall, wide = padded.shape
    return padded.as_strided(
        (count, tall - height + 1, wide - width + 1, channels, height, width),
        (channels * tall * wide, wide, 1, tall * wide, wide, 1),
    )


def correlate(x: Tensor, kernel: Tensor) -> Tensor:
    """Correlate each plane of `x` [B,C,H,W] with a kernel [K,K] of odd K.

    The border is mirrored without its edge. With a large kernel, four by four neighbouring results
    are computed at once as 16 channels of a convolution with stride 4, because a convolution with a
    single channel is slow.
    """
    (height, width), k = x.shape[2:], len(kernel)
    padded = F.pad(x, (k // 2,) * 4, mode="reflect")  # [B,C,H+K-1,W+K-1]
    if k <= 5:
        return F.conv2d(padded, kernel.to(x).expand(x.shape[1], 1, k, k), groups=x.shape[1])
    m = 4
    padded = F.pad(padded, (0, -width % m, 0, -height % m)).flatten(0, 1)[:, None]  # [B*C,1,…]
    bank = kernel.new_zeros(m, m, 1, k + m - 1, k + m - 1)
    for i in range(m):
        for j in range(m):
            bank[i, j, 0, i : i + k, j : j + k] = kernel
    y = F.conv2d(padded, bank.flatten(0, 1).to(x), stride=m)  # [B*C,16,H/4,W/4]
    y = F.pixel_shuffle(y, m)  # [B*C,1,H,W]
    return y.view(*x.shape[:2], *y.shape[2:])[..., :height, :width]
