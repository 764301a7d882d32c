"""The corruptions of ImageNet-C, CIFAR-C and Tiny-ImageNet-C on batches of tensors.

Source: Hendrycks and Dietterich, Benchmarking neural network robustness to common corruptions and
perturbations, ICLR 2019, arXiv 1903.12261; parameters and order of operations follow the released
scripts. A corruption is one function f(x, fields, *parameters) and one row of `_RECIPES`.
"""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real

import numpy as np
import torch
from torch import Tensor

from tttlib.corruptions import (
    blur,
    colour,
    digital,
    elastic,
    glass,
    jpeg,
    motion,
    noise,
    spatter,
    weather,
)
from tttlib.corruptions.counter import make_key
from tttlib.corruptions.fields import CounterFields, Fields, ReferenceFields

__all__ = ["EXTRA_NAMES", "NAMES", "VARIANT_NAMES", "VERSION", "corrupt"]

VERSION = 2
"""Of the results; raised when a pixel changes. Caches and result rows carry it."""

NAMES = (
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "defocus_blur",
    "glass_blur",
    "motion_blur",
    "zoom_blur",
    "snow",
    "frost",
    "fog",
    "brightness",
    "contrast",
    "elastic_transform",
    "pixelate",
    "jpeg_compression",
)
"""The 15 of the benchmark, in the canonical order of continual adaptation."""

EXTRA_NAMES = ("speckle_noise", "gaussian_blur", "spatter", "saturate")
"""The four held out for validation."""

VARIANT_NAMES = ("elastic_transform_2018",)
"""As the libraries of the released files did it, with the fields of the name without the year."""


@dataclass(frozen=True)
class _Recipe:
    """How one corruption is done.

    function    f(x, fields, *parameters) -> [B,3,H,W], not yet clipped. x: [B,3,H,W] in [0,1],
                float32, or float64 in reference mode; it may be overwritten
    parameters  image size -> the parameters of severities 1..5
    white       what the function returns for white: 1, or 255 where grey levels are whole numbers
                only before a division by 255
    mix         what a severity between two integers means: False interpolates the parameters, True
                interpolates the two results (where parameters act in steps)
    pixels      worked on at once, relative to `_CHUNK_CPU`: more where many steps are small ones
    """

    function: Callable[..., Tensor]
    parameters: Mapping[int, tuple]
    white: int = 1
    mix: bool = False
    pixels: int = 1


_RECIPES = {
    "gaussian_noise": _Recipe(noise.gaussian_noise, noise.GAUSSIAN_NOISE),
    "shot_noise": _Recipe(noise.shot_noise, noise.SHOT_NOISE),
    "impulse_noise": _Recipe(noise.impulse_noise, noise.IMPULSE_NOISE),
    "defocus_blur": _Recipe(blur.defocus_blur, blur.DEFOCUS_BLUR, mix=True),
    "glass_blur": _Recipe(glass.glass_blur, glass.GLASS_BLUR, mix=True),
    "motion_blur": _Recipe(motion.motion_blur, motion.MOTION_BLUR),
    "zoom_blur": _Recipe(blur.zoom_blur, blur.ZOOM_BLUR, mix=True),
    "snow": _Recipe(weather.snow, weather.SNOW),
    "frost": _Recipe(weather.frost, weather.FROST, white=255, pixels=2),
    "fog": _Recipe(weather.fog, weather.FOG, pixels=2),
    "brightness": _Recipe(colour.brightness, colour.BRIGHTNESS),
    "contrast": _Recipe(digital.contrast, digital.CONTRAST),
    "elastic_transform": _Recipe(elastic.elastic_transform, elastic.ELASTIC_TRANSFORM),
    "elastic_transform_2018": _Recipe(elastic.elastic_transform_2018, elastic.ELASTIC_TRANSFORM),
    "pixelate": _Recipe(digital.pixelate, digital.PIXELATE),
    "jpeg_compression": _Recipe(jpeg.jpeg_compression, jpeg.JPEG_COMPRESSION),
    "speckle_noise": _Recipe(noise.speckle_noise, noise.SPECKLE_NOISE),
    "gaussian_blur": _Recipe(blur.gaussian_blur, blur.GAUSSIAN_BLUR),
    "spatter": _Recipe(spatter.spatter, spatter.SPATTER, mix=True),
    "saturate": _Recipe(colour.saturate, colour.SATURATE, mix=True),
}

# Pixels (images * H * W) worked on at once: on the CPU, by each thread, what stays in its cache.
_CHUNK_CPU, _CHUNK_GPU = 2**17, 2**22
_SMALLEST_SIDE = 8


@torch.no_grad()
def corrupt(
    images: Tensor,
    name: str,
    severity: float,
    *,
    ids: Tensor | None = None,
    seed: int = 0,
    generator: torch.Generator | None = None,
    reference: Sequence[np.random.RandomState] | None = None,
    jpeg85: bool = False,
) -> Tensor:
    """Corrupted copies of `images`: same shape, dtype and device.

    images     [B,3,H,W] RGB, uint8 in [0,255] or floating point in [0,1]; H, W >= 8
    name       one of `NAMES`, `EXTRA_NAMES` or `VARIANT_NAMES`
    severity   real in [1,5]
    ids        int64 [B], identity of each image; 0..B-1 by default
    seed       another seed, other random fields
    generator  draws the ids, for fields that differ from call to call
    reference  one numpy RandomState per image: float64 arithmetic and the reference's draws in
               their order, so that outputs equal those of the released scripts run with these
               streams; ids and seed have no effect then
    jpeg85     pass the result through JPEG of quality 85, as the released ImageNet-C and
               Tiny-ImageNet-C were saved, but not CIFAR-C. It takes a quarter of the noise away:
               the standard deviation of the change falls from 76 to 55 grey levels for
               gaussian_noise at size 224 and severity 5 (43 to 32 at 64), and stays within one
               level for fog, contrast and zoom_blur

    By default the result of an image depends on its pixels and on (id, name, severity, seed) alone,
    not on the batch around it; arithmetic is float32 and differs from the reference's by at most
    one grey level. CPU and GPU agree up to rounding.

    uint8 results are truncated as in the reference, floating-point ones are not, except that
    motion_blur, pixelate and jpeg_compression work on whole grey levels by definition.

    Parameters are those of the nearest of the sizes 32 (CIFAR-C), 64 (Tiny-ImageNet-C) and 224
    (ImageNet-C) to min(H, W), the smaller of two equally near ones.

    Between integer severities the parameters of the two neighbours are interpolated linearly (the
    quality of jpeg_compression then rounded to a whole number, the small side of pixelate and the
    taps of motion_blur and snow cut to whole pixels). Where a parameter counts or switches
    something (defocus_blur, zoom_blur, glass_blur, spatter, saturate) the two results are mixed.

    frost needs the photographs in the wheel of imagecorruptions: FileNotFoundError says so.

    Raises ValueError for anything outside these sets.
    """
    recipe, severity = _recipe(name), _severity(severity)
    _check_images(images)
    if generator is not None and not (ids is None and reference is None):
        raise ValueError("generator draws the ids: give it without ids and without reference")
    count, device = len(images), images.device
    if reference is not None:
        _check_reference(reference, count)
    elif generator is not None:
        ids = torch.randint(2**62, (count,), generator=generator, device=generator.device)
    elif ids is None:
        ids = torch.arange(count, device=device)
    else:
        _check_ids(ids, count)
    if isinstance(seed, bool) or not isinstance(seed, Integral):
        raise ValueError(f"seed must be an integer, got {seed!r}")
    key = make_key(name.removesuffix("_2018"), round(severity * 1e6), int(seed))

    if device.type == "cpu":
        _keep_freed_memory()
        pixels = _CHUNK_CPU * torch.get_num_threads()
    else:
        pixels = _CHUNK_GPU
    out = torch.empty_like(images)
    step = max(1, pixels * recipe.pixels // math.prod(images.shape[2:]))
    for start in range(0, count, step):
        part = slice(start, start + step)
        chunk = images[part].contiguous()  # other layouts may take other, less exact kernels
        fields: Fields
        if reference is not None:
            fields = ReferenceFields(reference[part], device)
            x = _unit(chunk, torch.float64)
        else:
            assert ids is not None
            fields = CounterFields(key, ids[part].to(device, torch.int64))
            x = _unit(chunk, torch.float32)
        y = _apply(recipe, x, fields, severity)
        if jpeg85:
            y = jpeg.recompress(_finish(y, torch.uint8, recipe.white), 85)
            out[part] = y if images.dtype == torch.uint8 else _unit(y, torch.float32)
        else:
            out[part] = _finish(y, images.dtype, recipe.white)
    return out


@functools.cache
def _keep_freed_memory() -> None:
    """Let the C library keep a step's buffers for the next step, up to 64 MiB, on the CPU.

    glibc fetches large blocks from the system and hands them back, so that every operation would
    write to pages that have to be mapped and zeroed first: up to twice the time. Its limits rise
    with the size of such a block when it is freed, if that is at most 32 MiB (mallopt(3),
    M_MMAP_THRESHOLD). Elsewhere this does nothing.
    """
    torch.empty(2**25 - 2**13, dtype=torch.uint8)


def _apply(recipe: _Recipe, x: Tensor, fields: Fields, severity: float) -> Tensor:
    """The corrupted images before clipping; x: [B,3,H,W] in [0,1]."""
    side = min(x.shape[2:])
    table = recipe.parameters[min(recipe.parameters, key=lambda size: abs(size - side))]
    lower = int(severity)
    share = severity - lower
    low, high = (
        parameters if isinstance(parameters, tuple) else (parameters,)
        for parameters in (table[lower - 1], table[min(lower, 4)])
    )
    if share == 0:
        return recipe.function(x, fields, *low)
    if recipe.mix:
        below = recipe.function(x.clone(), copy.deepcopy(fields), *low)  # both from the same draws
        return torch.lerp(below, recipe.function(x, fields, *high), share)
    between = (a + share * (b - a) for a, b in zip(low, high, strict=True))
    return recipe.function(x, fields, *between)


def _unit(images: Tensor, dtype: torch.dtype) -> Tensor:
    """A copy in [0,1]. The divisor is a tensor: some devices multiply by 1/255 for a number."""
    x = images.to(dtype, copy=True)
    return x.div_(x.new_full((), 255)) if images.dtype == torch.uint8 else x


def _finish(y: Tensor, dtype: torch.dtype, white: int = 1) -> Tensor:
    """Clip, overwriting y; to grey levels by truncation where the images are uint8."""
    y = y.clamp_(0, white)
    if dtype == torch.uint8:
        y = y if white == 255 else y.mul_(255)
        return y.to(torch.int16).to(dtype)  # two conversions that processors have as one each
    return y.div_(y.new_full((), white)).to(dtype)


def _recipe(name: str) -> _Recipe:
    if name not in _RECIPES:
        raise ValueError(
            f"unknown corruption {name!r}; legal are {', '.join(NAMES)} "
            f"the extra {', '.join(EXTRA_NAMES)} and the variant {', '.join(VARIANT_NAMES)}"
        )
    return _RECIPES[name]


def _severity(severity: float) -> float:
    legal = isinstance(severity, Real) and not isinstance(severity, bool) and 1 <= severity <= 5
    if not legal:
        raise ValueError(f"severity must be a number from 1 to 5, got {severity!r}")
    return float(severity)


def _check_images(images: Tensor) -> None:
    if not isinstance(images, Tensor):
        raise ValueError(f"images must be a tensor [B,3,H,W], got {type(images).__name__}")
    shape = tuple(images.shape)
    if len(shape) != 4 or shape[1] != 3 or min(shape[2:]) < _SMALLEST_SIDE:
        raise ValueError(f"images must be [B,3,H,W] with H, W >= {_SMALLEST_SIDE}, got {shape}")
    if images.dtype == torch.uint8:
        return
    if not images.is_floating_point():
        raise ValueError(f"images must be uint8 or floating point, got {images.dtype}")
    if len(images):
        low, high = (limit.item() for limit in images.aminmax())
        if not (low >= -1e-6 and high <= 1 + 1e-6):
            raise ValueError(
                f"floating-point images must lie in [0,1], got [{low:g}, {high:g}]; "
                "undo the normalisation, or give grey levels as uint8"
            )


def _check_ids(ids: Tensor, count: int) -> None:
    if not isinstance(ids, Tensor) or ids.dtype != torch.int64 or ids.shape != (count,):
        found = f"{ids.dtype} {tuple(ids.shape)}" if isinstance(ids, Tensor) else type(ids).__name__
        raise ValueError(f"ids must be an int64 tensor [{count}], one per image, got {found}")


def _check_reference(reference: Sequence[np.random.RandomState], count: int) -> None:
    legal = isinstance(reference, Sequence) and all(
        isinstance(state, np.random.RandomState) for state in reference
    )
    if not legal or len(reference) != count:
        raise ValueError(
            f"reference must be a list of {count} numpy.random.RandomState, one per image, "
            f"got {reference!r:.100}"
        )
