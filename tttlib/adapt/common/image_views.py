"""Random views that are drawn for each image: AdaContrast's, and EcoTTA's during its warm-up.

Paper: Chen et al., Contrastive Test-Time Adaptation, CVPR 2022, arXiv 2204.10377. As in the
continual benchmarks these are the views of MoCo v2 without the crop: with a probability each,
colour jitter (brightness, contrast, saturation and hue in a random order), grey, Gaussian blur and
horizontal flip. Known deviations from the codes: floats throughout, where they round to 256 grey
levels in between, and a true Gaussian, which Pillow's blur approximates with box filters.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from tttlib.adapt.common.augmentation import in_full_precision

_GREY = (0.299, 0.587, 0.114)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Probabilities of the operations, and their ranges.

    Attributes
    ----------
    jitter, grey, blur, flip
        Probabilities.
    factors
        Brightness, contrast and saturation are multiplied by U(1-f, 1+f), drawn for each.
    hue
        U(-hue, hue) of a turn is added to the hue.
    sigma, radius
        Range of the blur's sigma, and radius of its kernel, in pixels.
    """

    jitter: float = 0.8
    factors: float = 0.4
    hue: float = 0.1
    grey: float = 0.2
    blur: float = 0.5
    sigma: tuple[float, float] = (0.1, 2.0)
    radius: int = 6
    flip: float = 0.5


STRONG = Recipe()
WARM_UP = Recipe(jitter=0.4, grey=0.1, blur=0.2, radius=1, flip=0.0)


@in_full_precision
def random_view(images: Tensor, generator: torch.Generator, recipe: Recipe = STRONG) -> Tensor:
    """Return a view of each image [B,3,H,W] in [0,1], by 12 draws of a CPU generator per image."""
    u = torch.rand(len(images), 12, generator=generator, dtype=torch.float64)  # [B,12]
    x = images.clamp(0, 1)
    order = u[:, :4].argsort(1)  # [B,4] of the four colour operations
    spread = 2 * u[:, 4:8] - 1
    factors = 1 + recipe.factors * spread[:, :3]
    values = torch.cat([factors, recipe.hue * spread[:, 3:]], 1).to(x)  # [B,4]
    jittered = u[:, 8] < recipe.jitter
    for place in range(4):
        for operation, change in enumerate((_brightness, _contrast, _saturation, _hue)):
            rows = (jittered & (order[:, place] == operation)).nonzero()[:, 0].to(x.device)
            x = x.index_copy(0, rows, change(x[rows], values[rows, operation]))
    rows = (u[:, 9] < recipe.grey).nonzero()[:, 0].to(x.device)
    x = x.index_copy(0, rows, _grey(x[rows]).expand(-1, 3, -1, -1))
    low, high = recipe.sigma
    blurred = (u[:, 10] < recipe.blur).nonzero()[:, 0]
    # One draw decides whether to blur and, by how far it lies below the probability, how much
    sigma = low + (high - low) * (u[blurred, 10] / max(recipe.blur, 1e-12))
    rows = blurred.to(x.device)
    x = x.index_copy(0, rows, _blur(x[rows], sigma.to(x), recipe.radius))
    return flipped(x, u[:, 11] < recipe.flip)


@torch.no_grad()
def random_flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Flip each of the images [B,3,H,W] left to right with probability 1/2."""
    return flipped(images, torch.rand(len(images), generator=generator) < 0.5)


def flipped(images: Tensor, which: Tensor) -> Tensor:
    """Flip the images for which `which` [B] is true left to right and leave the others."""
    return torch.where(which.to(images.device).view(-1, 1, 1, 1), images.flip(-1), images)


def _grey(x: Tensor) -> Tensor:
    return (x * x.new_tensor(_GREY).view(1, 3, 1, 1)).sum(1, keepdim=True)  # [B,1,H,W]


def _mixed(x: Tensor, other: Tensor | float, share: Tensor) -> Tensor:
    """Return share x + (1-share) other, clamped to [0,1]; share is [B]."""
    share = share.view(-1, 1, 1, 1)
    return (share * x + (1 - share) * other).clamp(0, 1)


def _brightness(x: Tensor, factor: Tensor) -> Tensor:
    return _mixed(x, 0.0, factor)


def _contrast(x: Tensor, factor: Tensor) -> Tensor:
    return _mixed(x, _grey(x).mean((2, 3), keepdim=True), factor)


def _saturation(x: Tensor, factor: Tensor) -> Tensor:
    return _mixed(x, _grey(x), factor)


def _hue(x: Tensor, turn: Tensor) -> Tensor:
    """Turn the hue by `turn` [B] of a full turn; saturation and value of HSV stay."""
    red, green, blue = x.unbind(1)
    value = x.amax(1)
    chroma = value - x.amin(1)
    some = torch.where(chroma > 0, chroma, 1)
    sextant = torch.where(value == green, 2 + (blue - red) / some, 4 + (red - green) / some)
    sextant = torch.where(value == red, (green - blue) / some, sextant) + 6 * turn.view(-1, 1, 1)
    k = (x.new_tensor([5, 3, 1]).view(1, 3, 1, 1) + sextant[:, None]) % 6
    return value[:, None] - chroma[:, None] * torch.minimum(k, 4 - k).clamp(0, 1)


def _blur(x: Tensor, sigma: Tensor, radius: int) -> Tensor:
    """Blur each image with its own sigma [B]; the edge is continued beyond the image."""
    if not len(x):
        return x
    offsets = torch.arange(-radius, radius + 1, device=x.device, dtype=x.dtype)
    kernels = torch.exp(-0.5 * (offsets / sigma[:, None]) ** 2)  # [B,2r+1]
    kernels = (kernels / kernels.sum(1, keepdim=True)).repeat_interleave(3, 0)
    wide = F.pad(x, [radius] * 4, "replicate").flatten(0, 1)[None]  # [1,3B,H+2r,W+2r]
    groups = len(kernels)
    wide = F.conv2d(wide, kernels[:, None, None, :], groups=groups)
    return F.conv2d(wide, kernels[:, None, :, None], groups=groups).view_as(x)
