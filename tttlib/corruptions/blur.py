"""Blur corruptions of ImageNet-C (Hendrycks and Dietterich, ICLR 2019, arXiv 1903.12261)."""

from __future__ import annotations

import math
from collections import Counter
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tttlib.corruptions.fields import Fields
from tttlib.corruptions.filters import correlate, gaussian_filter, resample, zooms

# Parameters of severities 1..5 by image size.
GAUSSIAN_BLUR = {  # sigma in pixels
    32: (0.4, 0.6, 0.7, 0.8, 1),
    64: (0.5, 0.75, 1, 1.25, 1.5),
    224: (1, 2, 3, 4, 6),
}
DEFOCUS_BLUR = {  # radius of the disk in pixels, sigma of its anti-aliasing in pixels
    32: ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
    64: ((0.5, 0.6), (1, 0.1), (1.5, 0.1), (2.5, 0.01), (3, 0.1)),
    224: ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
}
ZOOM_BLUR = {  # step and number of the zoom factors 1, 1 + step, ...
    32: ((0.01, 7), (0.01, 12), (0.01, 16), (0.01, 21), (0.01, 26)),
    64: ((0.01, 7), (0.01, 12), (0.01, 16), (0.01, 21), (0.01, 26)),
    224: ((0.01, 12), (0.01, 16), (0.02, 11), (0.02, 13), (0.03, 11)),
}


def gaussian_blur(x: Tensor, fields: Fields, sigma: float) -> Tensor:
    """Smooth with a Gaussian of `sigma` pixels, cut at 4 sigma, with the edge replicated.

    x is [B,3,H,W] in [0,1].
    """
    return gaussian_filter(x, sigma)


def defocus_blur(x: Tensor, fields: Fields, radius: float, sigma: float) -> Tensor:
    """Correlate with an anti-aliased disk, with the border mirrored without its edge.

    x is [B,3,H,W] in [0,1]; `radius` and `sigma` are in pixels. At size 224 the kernels of
    severities 4 and 5 sum to 1.013 and 1.011, so those images become 1 % brighter. The reference
    does the same, because there the disk touches the border of its array.
    """
    kernel = _disk(radius, sigma)
    if x.dtype == torch.float32:
        return correlate(x, kernel)
    border, (height, width) = len(kernel) // 2, x.shape[2:]
    padded = F.pad(x, (border,) * 4, mode="reflect")
    y = torch.zeros_like(x)  # tap by tap: a float64 convolution would unfold all of it in memory
    for i, j in kernel.nonzero().tolist():
        y.add_(padded[:, :, i : i + height, j : j + width], alpha=kernel[i, j].item())
    return y


@lru_cache(maxsize=64)
def _disk(radius: float, sigma: float) -> Tensor:
    """Return the anti-aliased disk, float32 [K,K] with odd K, cut to the weights above 1e-15.

    It is rounded like OpenCV's GaussianBlur of a float32 array on a processor with AVX2: first the
    rows, then the columns, of which those that do not fill a vector of 8 have no fused
    multiply-add. The last bit of a weight decides about results that are whole grey levels before
    truncation.
    """
    half, reach = (8, 1) if radius <= 8 else (math.ceil(radius), 2)
    grid = np.arange(-half, half + 1)
    disk = (grid[:, None] ** 2 + grid**2 <= radius**2).astype(np.float32)
    disk /= disk.sum()
    taps = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    taps = (taps / taps.sum()).astype(np.float32)
    outwards = range(reach + 1)
    disk = _correlate(disk, taps, outwards[::-1] if reach == 1 else outwards, fused=True).T
    fused, plain = (_correlate(disk, taps, outwards, fused=f) for f in (True, False))
    vector = len(disk) // 8 * 8
    disk = np.concatenate([fused[:vector], plain[vector:]]).T
    used = int(abs(grid[(disk > 1e-15).any(1)]).max())
    kept = slice(half - used, half + used + 1)
    return torch.from_numpy(np.where(disk > 1e-15, disk, 0)[kept, kept].copy())


def _correlate(rows: np.ndarray, taps: np.ndarray, order: range, *, fused: bool) -> np.ndarray:
    """Correlate each row with symmetric taps, adding the distances in the given order."""
    reach = len(taps) // 2
    padded = np.pad(rows, ((0, 0), (reach, reach)), mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, len(taps), axis=1)
    y = np.zeros_like(rows)
    for k in order:
        pair = windows[..., reach + k] + windows[..., reach - k] if k else windows[..., reach]
        if fused:
            y = (np.float64(taps[reach + k]) * pair + y).astype(np.float32)
        else:
            y = y + taps[reach + k] * pair
    return y


def zoom_blur(x: Tensor, fields: Fields, step: float, count: int) -> Tensor:
    """Average the image and its `count` enlargements by the factors 1, 1 + step, and so on.

    x is [B,3,H,W] in [0,1]. The factor 1 is in the list, so the image itself counts twice. Sums
    are float32, as in the reference. Both axes are interpolated by gathering rows, because a
    product of matrices could round differently with the size of the batch.
    """
    height, width = x.shape[2:]
    down, across = _zooms(height, step, count), _zooms(width, step, count)
    total = torch.zeros_like(x, dtype=torch.float32)
    columns = x.float().to(x.dtype).mT.contiguous()  # [B,3,W,H], float32 values
    for (vertical, horizontal), times in Counter(zip(down, across, strict=True)).items():
        zoomed = resample(columns, *horizontal).mT.contiguous()  # [B,3,H,W]
        zoomed = resample(zoomed, *vertical).float()
        for _ in range(times):  # one by one: the order of rounding is the reference's
            total += zoomed
    return (total + x.float()) / total.new_full((), count + 1)


@lru_cache(maxsize=64)
def _zooms(side: int, step: float, count: int) -> list[tuple[int, int, int, int]]:
    """Return (crop, top, out, trim) in pixels for each zoom factor.

    The factors carry the rounding of numpy.arange(1, stop, step): at 32 pixels the factor
    1.25 + 2e-16 enlarges to 33 pixels and not to 32.
    """
    factors = 1.0 + np.arange(count) * ((1.0 + step) - 1.0)
    return [zooms(side, factor) for factor in factors.tolist()]
