"""Spatter of ImageNet-C (Hendrycks and Dietterich, ICLR 2019, arXiv 1903.12261): water and mud.

The relief of the water is the distance to the Canny edges of a layer of drops, passed through a
chain of OpenCV filters on grey levels. Here each filter is integer arithmetic on a batch of layers.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from tttlib.corruptions.fields import Fields
from tttlib.corruptions.filters import box3, gaussian_filter, mirror, replicate

# Parameters of severities 1..5 by image size: mean and std of the layer, sigma of its blur in
# pixels, threshold, strength (water) or sigma of the second blur (mud), 0 for water and 1 for mud.
SPATTER = {
    32: (
        (0.62, 0.1, 0.7, 0.7, 0.5, 0),
        (0.65, 0.1, 0.8, 0.7, 0.5, 0),
        (0.65, 0.3, 1, 0.69, 0.5, 0),
        (0.65, 0.1, 0.7, 0.69, 0.6, 1),
        (0.65, 0.1, 0.5, 0.68, 0.6, 1),
    ),
    64: (
        (0.62, 0.1, 0.7, 0.7, 0.6, 0),
        (0.65, 0.1, 0.8, 0.7, 0.6, 0),
        (0.65, 0.3, 1, 0.69, 0.6, 0),
        (0.65, 0.1, 0.7, 0.68, 0.6, 1),
        (0.65, 0.1, 0.5, 0.67, 0.6, 1),
    ),
    224: (
        (0.65, 0.3, 4, 0.69, 0.6, 0),
        (0.65, 0.3, 3, 0.68, 0.6, 0),
        (0.65, 0.3, 2, 0.68, 0.5, 0),
        (0.65, 0.3, 1, 0.65, 1.5, 1),
        (0.67, 0.4, 1, 0.65, 1.5, 1),
    ),
}
_MUD = (63, 42, 20)
_WATER = (175, 238, 238)  # pale turquoise
_FAR = 20  # pixels; larger distances count as this one
_UNIT = 650  # a pixel in whole-number distances, where 1, 1.4, 2.1969 are whole within 2e-5


def spatter(
    x: Tensor,
    fields: Fields,
    mean: float,
    std: float,
    sigma: float,
    threshold: float,
    strength: float,
    mud: int,
) -> Tensor:
    """Put drops of water, or mud if `mud` is 1, on the lens.

    x is [B,3,H,W] in [0,1]; the other parameters are explained at `SPATTER`.
    """
    layer = gaussian_filter(fields.normal(mean, std, tuple(x.shape[2:])), sigma)  # [B,H,W]
    layer = F.threshold(layer, math.nextafter(threshold, 0), 0)
    colour = torch.tensor(_MUD if mud else _WATER, device=x.device) / 255
    colour = colour.to(x.dtype).view(3, 1, 1)
    if mud:
        cover = gaussian_filter((layer > threshold).to(x.dtype), strength)[:, None]  # [B,1,H,W]
        cover = F.threshold(cover, math.nextafter(0.8, 0), 0)
        return x.mul_(1 - cover).add_(colour * cover)
    levels = layer.mul_(255).floor_().int().bitwise_and_(255)
    water = (levels * _relief(levels)).to(x.dtype)
    highest = water.amax((1, 2), keepdim=True)
    water = water.div_(torch.where(highest > 0, highest, 1)).mul_(strength)
    return x.add_(colour * water[:, None])


def _relief(levels: Tensor) -> Tensor:
    """Return the height of the water in grey levels, int32 [B,H,W], given those of the layer."""
    distance = _distance(_canny(levels.to(torch.int16), 50, 150))
    blurred = box3(distance.int()).floor_divide_(9 * _UNIT)
    p = mirror(_equalise(blurred, _FAR + 1), 1)
    up, here, down = p[:, :-2], p[:, 1:-1], p[:, 2:]  # a diagonal edge, lit from the bottom right
    lit = (here[..., 1:-1] + here[..., 2:]).sub_(here[..., :-2])
    lit.sub_(up[..., :-2], alpha=2).sub_(up[..., 1:-1])
    lit.add_(down[..., 1:-1]).add_(down[..., 2:], alpha=2)
    return box3(lit.clamp_(0, 255)).mul_(2).add_(9).floor_divide_(18)  # rounded mean


# Masks are int16 with -1 for true: comparing by the sign of a difference is far faster than making
# booleans and choosing by them.


def _below(a: Tensor, b: Tensor | int) -> Tensor:
    """Return the mask of a < b, for whole numbers whose difference does not overflow."""
    return (a - b).bitwise_right_shift_(8 * a.element_size() - 1)


def _canny(levels: Tensor, low: int, high: int) -> Tensor:
    """Return the mask of OpenCV's Canny edges (3x3 Sobel, |dx| + |dy|) of int16 [B,H,W], 0..255."""
    p = replicate(levels, 1)
    column = (p[:, :-2] + p[:, 2:]).add_(p[:, 1:-1], alpha=2)  # [B,H,W+2]
    row = (p[..., :-2] + p[..., 2:]).add_(p[..., 1:-1], alpha=2)  # [B,H+2,W]
    dx = column[..., 2:] - column[..., :-2]
    dy = row[:, 2:] - row[:, :-2]
    rising = dx.bitwise_xor(dy).bitwise_right_shift_(15)  # signs differ
    dx, dy = dx.abs_(), dy.abs_()
    size = dx + dy
    q = F.pad(size, (1, 1, 1, 1))

    def ridge(down: int, right: int, strictly: bool) -> Tensor:
        """Return where `size` exceeds its neighbours on both sides."""
        (before, after) = (
            q[:, 1 + i : q.shape[1] - 1 + i, 1 + j : q.shape[2] - 1 + j]
            for i, j in ((-down, -right), (down, right))
        )
        return _below(before, size).bitwise_and_(_below(after, size if strictly else size + 1))

    steep, tangent = dy.int() << 15, dx.int() * 13573  # tan(22.5 degrees) in 15 bits
    flat = _below(steep, tangent).to(torch.int16)
    upright = _below(tangent.add_(dx.int() << 16), steep).to(torch.int16)
    slanting = ridge(1, -1, True).bitwise_and_(rising)
    slanting |= ridge(1, 1, True).bitwise_and_(~rising)
    peak = slanting.bitwise_and_(~(flat | upright))
    peak |= ridge(0, 1, False).bitwise_and_(flat)
    peak |= ridge(1, 0, False).bitwise_and_(upright)
    candidate = peak.bitwise_and_(_below(low - size, 0))
    return _grow(candidate & _below(high - size, 0), candidate)


def _grow(seeds: Tensor, candidates: Tensor) -> Tensor:
    """Return the candidates that are connected to a seed in 8 directions; masks [B,H,W]."""
    while True:
        near = F.pad(seeds, (1, 1, 1, 1))
        near = near[:, :-2] | near[:, 1:-1] | near[:, 2:]
        near = (near[..., :-2] | near[..., 1:-1] | near[..., 2:]) & candidates
        if torch.equal(near, seeds):
            return seeds
        seeds = near


def _distance(edges: Tensor) -> Tensor:
    """Return the chamfer distance to the nearest edge, at most 20 pixels, int16 in `_UNIT`s.

    `edges` is a mask [B,H,W]. This is the 5x5 chamfer of Borgefors (1986) with OpenCV's steps 1,
    1.4 and 2.1969. A shortest path has two kinds of steps in any order, so it is enough to go along
    each of the 8 lines once, in both directions; powers of two make a walk of any length.
    """
    far, border = _FAR * _UNIT, _FAR
    distance = F.pad(edges, (border,) * 4)  # beyond the image all is far
    distance = distance.bitwise_not_().bitwise_and_(far)
    height, width = edges.shape[1:]
    rows, columns = slice(border, border + height), slice(border, border + width)
    inside, nearer = distance[:, rows, columns], torch.empty_like(edges)
    for down, right, cost in _STEPS:
        times = 1
        while times * cost < far:
            i, j = down * times, right * times
            before = distance[:, border - i : border - i + height, border - j : border - j + width]
            after = distance[:, border + i : border + i + height, border + j : border + j + width]
            torch.minimum(before, after, out=nearer).add_(cost * times)
            torch.minimum(inside, nearer, out=inside)
            times *= 2
    return inside


_STEPS = [
    (down, right, round({1: 1.0, 2: 1.4, 5: 2.1969}[down**2 + right**2] * _UNIT))
    for down in range(3)
    for right in range(-2, 3)
    if down**2 + right**2 in (1, 2, 5) and (down > 0 or right > 0)
]


def _equalise(levels: Tensor, count: int) -> Tensor:
    """Equalise the histogram to 0..255 as OpenCV does; int32 [B,H,W], values below `count`."""
    flat = levels.flatten(1).long()
    histogram = torch.zeros(len(flat), count, device=flat.device)
    histogram.scatter_add_(1, flat, torch.ones_like(flat, dtype=torch.float32))
    total = histogram.cumsum(1)  # [B,count]
    lowest = (total > 0).int().argmax(1, keepdim=True)
    first = histogram.gather(1, lowest)
    rest = flat.shape[1] - first
    scale = 255 / torch.where(rest > 0, rest, 1)
    table = torch.where(rest > 0, ((total - first) * scale).round(), lowest).clamp_min_(0)
    return table.gather(1, flat).int().view(levels.shape)
