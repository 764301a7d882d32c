"""Spatter of ImageNet-C (Hendrycks and Dietterich, ICLR 2019, arXiv 1903.12261): water and mud.

The water's relief is the distance to the Canny edges of a layer of drops, passed through a chain of
OpenCV filters on grey levels; here each filter is integer arithmetic on a batch of layers.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from tttlib.corruptions.fields import Fields
from tttlib.corruptions.filters import box3, gaussian_filter, mirror

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
_FAR = 20  # pixels; larger distances are not told apart
_UNIT = 10_000  # of whole-number distances: the costs of the steps have four decimals


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
    """Drops of water, or mud, on the lens. x: [B,3,H,W] in [0,1]."""
    layer = gaussian_filter(fields.normal(mean, std, tuple(x.shape[2:])), sigma)  # [B,H,W]
    layer = torch.where(layer < threshold, 0, layer)
    colour = torch.tensor(_MUD if mud else _WATER, device=x.device) / 255
    colour = colour.to(x.dtype).view(3, 1, 1)
    if mud:
        cover = gaussian_filter((layer > threshold).to(x.dtype), strength)[:, None]  # [B,1,H,W]
        cover = torch.where(cover < 0.8, 0, cover)
        return x * (1 - cover) + colour * cover
    levels = (layer * 255).floor().int() % 256
    water = (levels * _relief(levels)).to(x.dtype)
    highest = water.amax((1, 2), keepdim=True)
    water = water / torch.where(highest > 0, highest, 1) * strength
    return x + colour * water[:, None]


def _relief(levels: Tensor) -> Tensor:
    """Height of the water, grey levels int32 [B,H,W], from the layer's grey levels."""
    distance = _distance(_canny(levels, 50, 150))
    blurred = box3(distance) // (9 * _UNIT)
    equalised = _equalise(blurred, _FAR + 1)
    p = mirror(equalised, 1)
    up, here, down = p[:, :-2], p[:, 1:-1], p[:, 2:]  # a diagonal edge, lit from the bottom right
    lit = -2 * up[..., :-2] - up[..., 1:-1] - here[..., :-2] + here[..., 1:-1]
    lit = lit + here[..., 2:] + down[..., 1:-1] + 2 * down[..., 2:]
    return (2 * box3(lit.clamp_(0, 255)) + 9) // 18  # rounded mean


def _canny(levels: Tensor, low: int, high: int) -> Tensor:
    """Canny's edges with 3x3 Sobel and |dx| + |dy|, as OpenCV: bool [B,H,W]."""
    p = F.pad(levels[:, None].float(), (1, 1, 1, 1), mode="replicate")[:, 0].int()
    column = p[:, :-2] + 2 * p[:, 1:-1] + p[:, 2:]
    row = p[..., :-2] + 2 * p[..., 1:-1] + p[..., 2:]
    dx = column[..., 2:] - column[..., :-2]
    dy = row[:, 2:] - row[:, :-2]
    size = dx.abs() + dy.abs()
    q = F.pad(size, (1, 1, 1, 1))
    around = {
        (i, j): q[:, 1 + i : q.shape[1] - 1 + i, 1 + j : q.shape[2] - 1 + j]
        for i in (-1, 0, 1)
        for j in (-1, 0, 1)
    }
    tangent = dx.abs() * 13573  # tan(22.5 degrees) in 15 bits
    steep = dy.abs() << 15
    flat, upright = steep < tangent, steep > tangent + (dx.abs() << 16)
    rising = (dx ^ dy) < 0
    horizontal = (size > around[0, -1]) & (size >= around[0, 1])
    vertical = (size > around[-1, 0]) & (size >= around[1, 0])
    falling_peak = (size > around[-1, -1]) & (size > around[1, 1])
    rising_peak = (size > around[-1, 1]) & (size > around[1, -1])
    diagonal = torch.where(rising, rising_peak, falling_peak)
    peak = torch.where(flat, horizontal, torch.where(upright, vertical, diagonal))
    candidate = peak & (size > low)
    return _grow(candidate & (size > high), candidate)


def _grow(seeds: Tensor, candidates: Tensor) -> Tensor:
    """The candidates connected to a seed, in 8 directions. bool [B,H,W]."""
    while True:
        near = F.max_pool2d(seeds.float(), 3, 1, 1).bool() & candidates
        if torch.equal(near, seeds):
            return seeds
        seeds = near


def _distance(edges: Tensor) -> Tensor:
    """Chamfer distance to the nearest edge, at most 20: int32 [B,H,W], in units of 1e-4 pixels.

    5x5 chamfer of Borgefors (1986) with OpenCV's steps 1, 1.4 and 2.1969. A shortest path is made
    of two kinds of step, in any order, so it is enough to go along each of the 16 directions once;
    powers of two make a walk of any length.
    """
    distance = torch.where(edges, 0, _FAR * _UNIT).int()
    for down, right, cost in _STEPS:
        times = 1
        while times * cost < _FAR * _UNIT:
            _step(distance, down * times, right * times, cost * times)
            times *= 2
    return distance


_STEPS = [
    (down, right, round({1: 1.0, 2: 1.4, 5: 2.1969}[down**2 + right**2] * _UNIT))
    for down in range(-2, 3)
    for right in range(-2, 3)
    if down**2 + right**2 in (1, 2, 5)
]


def _step(distance: Tensor, down: int, right: int, cost: int) -> None:
    """distance[p + (down, right)] = min(itself, distance[p] + cost), for all p at once."""
    height, width = distance.shape[1:]
    if abs(down) >= height or abs(right) >= width:
        return
    rows, columns = (
        slice(max(0, down), height + min(0, down)),
        slice(max(0, right), width + min(0, right)),
    )
    back = (
        slice(max(0, -down), height + min(0, -down)),
        slice(max(0, -right), width + min(0, -right)),
    )
    here = distance[:, rows, columns]
    torch.minimum(here, distance[:, back[0], back[1]] + cost, out=here)


def _equalise(levels: Tensor, count: int) -> Tensor:
    """Histogram equalisation to 0..255, as OpenCV. int32 [B,H,W], values below `count`."""
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
