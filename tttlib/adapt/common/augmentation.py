"""CoTTA's test-time augmentation: the second view of CoTTA, LAW, Surgical and PALM.

Paper: Wang et al., Continual Test-Time Domain Adaptation, CVPR 2022, arXiv 2203.13591, whose code
gives the constants. The steps are, in this order: colour jitter (brightness, contrast, saturation,
hue and gamma in a random order), rotation with shift and scale, Gaussian blur, flip and Gaussian
noise. Each number is drawn once and holds for the whole batch, except for the noise.

The code pads the image to twice its size by its edge, moves, blurs and crops it. Here only what the
crop keeps is computed: a sample outside the image takes the nearest edge pixel, which is the same.
Constants of geometry are relative to the image's size (4 pixels of 32, 28 of 224).
`tttlib.reference.palm.plain_view` does the steps one by one; read it first.

ROID and CMF take the view without blur and noise, of an image that is padded by reflection.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

JITTER = {  # uniform ranges
    "brightness": (0.6, 1.4),
    "contrast": (0.7, 1.3),
    "saturation": (0.5, 1.5),
    "hue": (-0.06, 0.06),
    "gamma": (0.7, 1.3),
}
DEGREES, SHIFT, SCALE, SIGMA = 15.0, 1 / 8, (0.9, 1.1), (0.001, 0.5)  # SHIFT in image sizes
FLIP, NOISE = 0.5, 0.005
_RADIUS = 2  # of the blur


@dataclass(frozen=True)
class View:
    """The random numbers of one view.

    Attributes
    ----------
    jitter
        Colour operations in their order, each with its factor.
    degrees, shift, scale
        Of the rotation, of the translation (x, y) in pixels, and of the zoom.
    sigma
        Of the blur, in pixels.
    flip
        Whether left and right are exchanged.
    seed
        Of the noise.
    """

    jitter: tuple[tuple[str, float], ...]
    degrees: float
    shift: tuple[int, int]
    scale: float
    sigma: float
    flip: bool
    seed: int


def draw(size: int, generator: torch.Generator) -> View:
    """Draw a random view of images with sides of `size` pixels, by 13 draws of a CPU generator."""
    order = torch.randperm(len(JITTER), generator=generator).tolist()
    u = torch.rand(len(JITTER) + 6, generator=generator, dtype=torch.float64).tolist()
    factors = [(name, _between(*JITTER[name], v)) for name, v in zip(JITTER, u, strict=False)]
    degrees, x, y, scale, sigma, flip = u[len(JITTER) :]
    far = SHIFT * size
    return View(
        jitter=tuple(factors[i] for i in order),
        degrees=_between(-DEGREES, DEGREES, degrees),
        shift=(round(_between(-far, far, x)), round(_between(-far, far, y))),
        scale=_between(*SCALE, scale),
        sigma=_between(*SIGMA, sigma),
        flip=flip < FLIP,
        seed=int(torch.randint(2**62, (), generator=generator)),
    )


def in_full_precision(view: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Decorate a function of images so that autocast does not reach into it, nor gradients."""

    @functools.wraps(view)
    def protected(images: Tensor, *arguments: Any, **constants: Any) -> Tensor:
        with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
            return view(images, *arguments, **constants)

    return protected


@in_full_precision
def cotta_view(
    images: Tensor,
    generator: torch.Generator,
    *,
    blur_and_noise: bool = True,
    outside: Literal["edge", "reflect"] = "edge",
) -> Tensor:
    """Return one random view of images [B,3,H,W] in [0,1].

    Parameters
    ----------
    images
        Floating point.
    generator
        On the CPU; the switches do not change its draws.
    blur_and_noise
        Whether there are the blur and the noise.
    outside
        What lies beyond the image: its edge, or its reflection in the outermost pixels.
    """
    view = draw(images.shape[-1], generator)
    x = jittered(images.clamp(0, 1), view.jitter)
    x = (moved_and_blurred if blur_and_noise else moved)(x, view, outside=outside)
    if view.flip:
        x = x.flip(-1)
    if not blur_and_noise:
        return x.clamp_(0, 1)
    random = torch.Generator(x.device).manual_seed(view.seed)
    noise = torch.empty_like(x).normal_(0, NOISE, generator=random)
    return noise.add_(x).clamp_(0, 1)


def jittered(images: Tensor, operations: tuple[tuple[str, float], ...]) -> Tensor:
    """Apply colour operations to images [B,3,H,W] in turn, each clamped to [0,1]."""
    from torchvision.transforms.v2 import functional as colour  # here: slow to import

    for name, factor in operations:
        if name == "gamma":
            images = colour.adjust_gamma(images.clamp(1e-8, 1), factor)
        else:
            images = getattr(colour, f"adjust_{name}")(images, factor)
    return images


def moved(images: Tensor, view: View, *, outside: str = "edge", margin: int = 0) -> Tensor:
    """Rotate, shift and scale images [B,3,H,W] about the centre, bilinearly.

    `margin` is how many more pixels to give on each side.
    """
    height, width = images.shape[-2:]
    tall, wide = height + 2 * margin, width + 2 * margin
    sin, cos = math.sin(math.radians(view.degrees)), math.cos(math.radians(view.degrees))
    # From a pixel of the output to where it comes from, both from the centre, in half images
    to_source = torch.tensor([[cos, sin], [-sin, cos]], dtype=torch.float64) / view.scale
    shift = torch.tensor(view.shift, dtype=torch.float64)
    half_in = torch.tensor([width, height], dtype=torch.float64) / 2
    half_out = torch.tensor([wide, tall], dtype=torch.float64) / 2
    linear = to_source * half_out / half_in[:, None]  # [2,2]
    constant = -(to_source @ shift) / half_in  # [2]
    theta = _beside(torch.cat([linear, constant[:, None]], 1)[None], images)  # [1,2,3]
    grid = F.affine_grid(theta, [1, 1, tall, wide], align_corners=False)
    grid = grid.expand(len(images), -1, -1, -1)  # [B,tall,wide,2]
    if outside == "edge":
        return F.grid_sample(images, grid, "bilinear", "border", align_corners=False)
    # The same places in units in which -1 and 1 are the outermost pixels' centres, the mirrors
    grid = grid * _beside(half_in / (half_in - 0.5).clamp(min=0.5), images)
    return F.grid_sample(images, grid, "bilinear", "reflection", align_corners=True)


def moved_and_blurred(images: Tensor, view: View, *, outside: str = "edge") -> Tensor:
    """Rotate, shift and scale images [B,3,H,W] about the centre, bilinearly; blur them (5x5)."""
    x = moved(images, view, outside=outside, margin=_RADIUS)  # all that the blur sees of the crop
    offsets = torch.arange(-_RADIUS, _RADIUS + 1, dtype=torch.float64)
    weights = torch.exp(-0.5 * (offsets / view.sigma) ** 2)
    weights = _beside(weights / weights.sum(), images)
    channels = x.shape[1]
    rows = weights.view(1, 1, -1, 1).expand(channels, 1, -1, 1)
    columns = weights.view(1, 1, 1, -1).expand(channels, 1, 1, -1)
    return F.conv2d(F.conv2d(x, rows, groups=channels), columns, groups=channels)


def _beside(x: Tensor, images: Tensor) -> Tensor:
    """Return `x` on the images' device, without waiting for it."""
    return x.to(images.device, images.dtype, non_blocking=True)


def _between(low: float, high: float, u: float) -> float:
    return low + (high - low) * u
