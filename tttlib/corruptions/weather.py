"""Weather corruptions of ImageNet-C (Hendrycks and Dietterich, ICLR 2019, arXiv 1903.12261)."""

from __future__ import annotations

import importlib.util
import math
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from tttlib.corruptions.fields import Fields
from tttlib.corruptions.filters import clipped_zoom, windows
from tttlib.corruptions.motion import smear

# Parameters of severities 1..5 by image size.
SNOW = {  # mean and std of the layer, its zoom, threshold, radius and sigma of the motion, mix
    32: (
        (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
        (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
        (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
        (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
    ),
    64: (
        (0.1, 0.2, 1, 0.6, 8, 3, 0.8),
        (0.1, 0.2, 1, 0.5, 10, 4, 0.8),
        (0.15, 0.3, 1.75, 0.55, 10, 4, 0.7),
        (0.25, 0.3, 2.25, 0.6, 12, 6, 0.65),
        (0.3, 0.3, 1.25, 0.65, 14, 12, 0.6),
    ),
    224: (
        (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
        (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
        (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
        (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
        (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
    ),
}
FROST = {  # scale of the photographs, weight of the image, weight of the frost
    32: ((0.2, 1, 0.2), (0.2, 1, 0.3), (0.2, 0.9, 0.4), (0.2, 0.85, 0.4), (0.2, 0.75, 0.45)),
    64: ((0.3, 1, 0.3), (0.3, 0.9, 0.4), (0.3, 0.8, 0.45), (0.3, 0.75, 0.5), (0.3, 0.7, 0.55)),
    224: ((1, 1, 0.4), (1, 0.8, 0.6), (1, 0.7, 0.7), (1, 0.65, 0.7), (1, 0.6, 0.75)),
}
FOG = {  # amount, decay of the roughness per octave
    32: ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
    64: ((0.4, 3), (0.7, 3), (1, 2.5), (1.5, 2), (2, 1.75)),
    224: ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),
}


def snow(
    x: Tensor,
    fields: Fields,
    mean: float,
    std: float,
    zoom: float,
    threshold: float,
    radius: float,
    sigma: float,
    mix: float,
) -> Tensor:
    """Whiten the image and add a moving layer of flakes, once upright and once upside down.

    x is [B,3,H,W] in [0,1]; the other parameters are explained at `SNOW`. The layer passes through
    grey levels, because the reference has ImageMagick blur it.
    """
    layer = clipped_zoom(fields.normal(mean, std, tuple(x.shape[2:])), zoom)  # [B,H,W]
    layer = F.threshold(layer, math.nextafter(threshold, 0), 0).clamp_(0, 1)
    levels = layer.mul_(255).floor_()[:, None]
    flakes = smear(levels, fields.uniform(-135.0, -45.0), radius, sigma)
    flakes = flakes.div_(flakes.new_full((), 255)).to(torch.float32)  # [B,1,H,W]
    x = x.float()
    red, green, blue = x.unbind(1)
    grey = (0.299 * red).add_(0.587 * green).add_(0.114 * blue)[:, None]  # [B,1,H,W]
    whitened = torch.maximum(x, grey.mul_(1.5).add_(0.5)).mul_(1 - mix)
    return x.mul_(mix).add_(whitened).add_(flakes).add_(flakes.flip(2, 3))


def frost(x: Tensor, fields: Fields, scale: float, image: float, ice: float) -> Tensor:
    """Return image * x + ice * (a random crop of a photograph of frost), in grey levels 0..255.

    x is [B,3,H,W] in [0,1]. There are five photographs, two of which are the same, so that one has
    a probability of 2/5. They are mirrored for images that are larger.

    Raises
    ------
    FileNotFoundError
        If the photographs are missing.
    """
    height, width = x.shape[2:]
    photographs, sizes = _photographs(scale, height, width)
    chosen = fields.integers(0, len(photographs))  # [B]
    free = sizes.to(x.device)[chosen] - torch.tensor([height, width], device=x.device)  # [B,2]
    top, left = fields.integers(0, free[:, 0]), fields.integers(0, free[:, 1])
    crops = windows(photographs.to(x.device), height, width)[chosen, top, left]  # [B,3,H,W]
    return x.mul_(255).mul_(image).add_(crops.to(x.dtype).mul_(ice))


@lru_cache(maxsize=8)
def _photographs(scale: float, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Return the photographs, uint8 [5,3,H',W'] padded to one size, and true sizes, int64 [5,2].

    A photograph that leaves no choice of a crop of height x width is mirrored.
    """
    photographs = [_shrink(photograph, scale) for photograph in _read_frost()]
    for axis, side in ((0, height), (1, width)):
        photographs = [_mirrored(photograph, axis, side + 1) for photograph in photographs]
    sizes = torch.tensor([photograph.shape[:2] for photograph in photographs])
    stack = np.zeros((len(photographs), *sizes.amax(0).tolist(), 3), np.uint8)
    for place, photograph in zip(stack, photographs, strict=True):
        place[: photograph.shape[0], : photograph.shape[1]] = photograph
    return torch.from_numpy(stack).movedim(-1, 1).contiguous(), sizes


def _mirrored(photograph: np.ndarray, axis: int, side: int) -> np.ndarray:
    missing = max(0, side - photograph.shape[axis])
    return np.pad(photograph, [(0, missing if a == axis else 0) for a in range(3)], "symmetric")


@lru_cache(maxsize=1)
def _read_frost() -> list[np.ndarray]:
    """Return the five photographs of the reference, uint8 [H,W,3]; its sixth is never used."""
    spec = importlib.util.find_spec("imagecorruptions")  # finds it without importing it
    places = list(spec.submodule_search_locations or []) if spec else []
    names = ("frost1.png", "frost2.png", "frost3.png", "frost4.jpg", "frost5.jpg")
    paths = [Path(place) / "frost" / name for place in places[:1] for name in names]
    if not paths or not all(path.is_file() for path in paths):
        raise FileNotFoundError(
            "frost needs the photographs in the wheel of imagecorruptions, which is "
            f"{'incomplete' if paths else 'not installed'}; pip install 'tttlib[frost]'"
        )
    return [np.asarray(Image.open(path).convert("RGB")) for path in paths]


def _shrink(photograph: np.ndarray, scale: float) -> np.ndarray:
    """Interpolate uint8 [H,W,3] linearly at (i + 0.5) / scale - 0.5, as OpenCV does.

    There is no antialiasing; weights have 11 bits, and 4 + 16 + 2 bits are dropped on the way.
    """
    if scale == 1:
        return photograph
    taps = []
    for side in photograph.shape[:2]:
        place = (np.arange(round(side * scale)) + 0.5) / scale - 0.5
        place = place.astype(np.float32)
        first = np.floor(place).astype(np.int64)
        weight = np.rint((place - first) * np.float32(2048)).astype(np.int64)
        taps.append((first.clip(0, side - 1), (first + 1).clip(0, side - 1), weight))
    (top, bottom, down), (left, right, across) = taps
    across = across[:, None]
    wide = photograph.astype(np.int64)
    rows = wide[:, left] * (2048 - across) + wide[:, right] * across  # [H,W',3]
    down = down[:, None, None]
    upper = ((2048 - down) * (rows[top] >> 4)) >> 16
    lower = (down * (rows[bottom] >> 4)) >> 16
    return ((upper + lower + 2) >> 2).clip(0, 255).astype(np.uint8)


def fog(x: Tensor, fields: Fields, amount: float, decay: float) -> Tensor:
    """Return (x + amount * plasma) * m / (m + amount), where m is the maximum of the image.

    x is [B,3,H,W] in [0,1]; the roughness of the plasma falls by `decay` per octave.
    """
    height, width = x.shape[2:]
    side = 2 ** max(1, (max(height, width) - 1).bit_length())
    plasma = _plasma(fields, x.new_zeros(len(x)), side, decay)
    plasma = plasma[:, None, :height, :width]  # [B,1,H,W]
    brightest = x.amax((1, 2, 3), keepdim=True)
    return x.add_(amount * plasma).mul_(brightest).div_(brightest + amount)


def _plasma(fields: Fields, corner: Tensor, side: int, decay: float) -> Tensor:
    """Return a diamond-square fractal on a periodic grid, scaled to [0,1], [B,side,side].

    `corner` [B] is the height where the refinement begins. The reference multiplies a uniform of
    width w by w, so an octave falls by decay^2.
    """
    width = 100.0
    # The last row and column repeat the first, and in `centres` the first repeat the last, so that
    # neighbours are slices.
    grid = corner[:, None, None].repeat(1, 2, 2)  # [B,k+1,k+1]

    def wobbly_mean(total: Tensor) -> Tensor:
        return fields.uniform(-width, width, total.shape[1:]).mul_(width).add_(total.div_(4))

    while (k := grid.shape[1] - 1) < side:
        across = grid[:, :-1, :-1] + grid[:, :-1, 1:]  # [B,k,k]
        down = grid[:, :-1] + grid[:, 1:]  # [B,k,k+1]
        centres = grid.new_empty(len(grid), k + 1, k + 1)
        centres[:, 1:, 1:] = wobbly_mean(down[..., :-1] + down[..., 1:])
        centres[:, 0], centres[:, 1:, 0] = centres[:, -1], centres[:, 1:, -1]
        here = centres[:, 1:, 1:]
        finer = grid.new_empty(len(grid), 2 * k + 1, 2 * k + 1)
        finer[:, :-1:2, :-1:2] = grid[:, :-1, :-1]
        finer[:, 1::2, 1::2] = here
        finer[:, :-1:2, 1::2] = wobbly_mean((here + centres[:, :-1, 1:]).add_(across))
        finer[:, 1::2, :-1:2] = wobbly_mean((here + centres[:, 1:, :-1]).add_(down[..., :-1]))
        finer[:, -1], finer[..., -1] = finer[:, 0], finer[..., 0]
        grid, width = finer, width / decay
    grid = grid[:, :-1, :-1]
    low, high = grid.amin((1, 2), keepdim=True), grid.amax((1, 2), keepdim=True)
    return grid.sub_(low).div_(high - low)
