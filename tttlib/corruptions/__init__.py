"""The corruptions of ImageNet-C, CIFAR-C and Tiny-ImageNet-C on batches of tensors.

A corruption is one function f(x, fields, *parameters) and one row of `recipes.RECIPES`. Parameters
and order of operations follow the released scripts.

Source: Hendrycks and Dietterich, Benchmarking neural network robustness to common corruptions and
perturbations, ICLR 2019, arXiv 1903.12261.
"""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Sequence
from numbers import Integral, Real

import numpy as np
import torch
from torch import Tensor

from tttlib.corruptions import jpeg
from tttlib.corruptions.counter import make_key
from tttlib.corruptions.fields import CounterFields, Fields, ReferenceFields
from tttlib.corruptions.recipes import EXTRA_NAMES, NAMES, VARIANT_NAMES, Recipe, recipe_of
from tttlib.runtime.images import check_images

__all__ = ["EXTRA_NAMES", "NAMES", "VARIANT_NAMES", "VERSION", "corrupt"]

VERSION = 2
"""The version of the results, raised when a pixel changes. Caches and result rows carry it."""

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
    """Return corrupted copies of the images, of the same shape, dtype and device.

    By default the result for an image depends on its pixels and on (id, name, severity, seed), not
    on the batch around it. Arithmetic is float32 and differs from the reference by at most one grey
    level. CPU and GPU agree up to rounding.

    Parameters
    ----------
    images
        [B,3,H,W] RGB, uint8 in [0,255] or floating point in [0,1], with H, W >= 8.
    name
        One of `NAMES`, `EXTRA_NAMES` or `VARIANT_NAMES`.
    severity
        A real number in [1,5]. Between whole severities the parameters of the two neighbours are
        interpolated linearly (the quality of jpeg_compression is then rounded, the small side of
        pixelate and the taps of motion_blur and snow are cut to whole pixels). Where a parameter
        counts or switches something (defocus_blur, zoom_blur, glass_blur, spatter, saturate) the
        two results are mixed.
    ids
        int64 [B], the identity of each image; by default 0 to B-1.
    seed
        Another seed gives other random fields.
    generator
        Draws the ids, for fields that differ from call to call.
    reference
        One numpy RandomState per image. Then arithmetic is float64 and draws have the order of the
        reference, so that outputs equal those of the released scripts run with these streams; ids
        and seed have no effect.
    jpeg85
        Pass the result through JPEG of quality 85, as the released ImageNet-C and Tiny-ImageNet-C
        were saved, but not CIFAR-C. This takes a quarter of the noise away: the standard deviation
        of the change falls from 76 to 55 grey levels for gaussian_noise at size 224 and severity 5
        (43 to 32 at size 64), and stays within one level for fog, contrast and zoom_blur.

    Returns
    -------
    Tensor
        uint8 results are truncated as in the reference. Floating-point results are not, except
        that motion_blur, pixelate and jpeg_compression work on whole grey levels by definition.

    Raises
    ------
    ValueError
        If an argument lies outside these sets.
    FileNotFoundError
        If frost is asked for without the photographs in the wheel of imagecorruptions.

    Notes
    -----
    Parameters are those of the size nearest to min(H, W) among 32 (CIFAR-C), 64 (Tiny-ImageNet-C)
    and 224 (ImageNet-C), and of the smaller one of two equally near sizes.
    """
    recipe, severity = recipe_of(name), _severity(severity)
    check_images(images, empty=True, smallest_side=_SMALLEST_SIDE)
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

    pixels = _CHUNK_GPU
    if device.type == "cpu":
        _keep_freed_memory()
        pixels = _CHUNK_CPU * torch.get_num_threads()
    out = torch.empty_like(images)
    step = max(1, pixels * recipe.pixels // math.prod(images.shape[2:]))
    for start in range(0, count, step):
        part = slice(start, start + step)
        chunk = images[part].contiguous()  # other layouts may take other, less exact kernels
        fields: Fields
        if reference is not None:
            fields, dtype = ReferenceFields(reference[part], device), torch.float64
        else:
            assert ids is not None
            fields, dtype = CounterFields(key, ids[part].to(device, torch.int64)), torch.float32
        y = _apply(recipe, _unit(chunk, dtype), fields, severity)
        if jpeg85:
            y = jpeg.recompress(_finish(y, torch.uint8, recipe.white), 85)
            out[part] = y if images.dtype == torch.uint8 else _unit(y, torch.float32)
        else:
            out[part] = _finish(y, images.dtype, recipe.white)
    return out


@functools.cache
def _keep_freed_memory() -> None:
    """Let the C library keep the buffers of a step, up to 64 MiB, for the next step on the CPU.

    glibc gets large blocks from the system and gives them back, so every operation would write to
    pages that have to be mapped and zeroed first, which takes up to twice the time. Its limits rise
    with the size of such a block when it is freed, if that is at most 32 MiB (mallopt(3),
    M_MMAP_THRESHOLD). With other libraries this does nothing.
    """
    torch.empty(2**25 - 2**13, dtype=torch.uint8)


def _apply(recipe: Recipe, x: Tensor, fields: Fields, severity: float) -> Tensor:
    """Return the corrupted images before clipping; x is [B,3,H,W] in [0,1]."""
    levels, lower = recipe.levels(min(x.shape[2:])), int(severity)
    low, high, share = levels[lower - 1], levels[min(lower, 4)], severity - lower
    if share == 0:
        return recipe.function(x, fields, *low)
    if recipe.mix:
        below = recipe.function(x.clone(), copy.deepcopy(fields), *low)  # both from the same draws
        return torch.lerp(below, recipe.function(x, fields, *high), share)
    between = (a + share * (b - a) for a, b in zip(low, high, strict=True))
    return recipe.function(x, fields, *between)


def _unit(images: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a copy in [0,1]; the divisor is a tensor, as some devices would multiply by 1/255."""
    x = images.to(dtype, copy=True)
    return x.div_(x.new_full((), 255)) if images.dtype == torch.uint8 else x


def _finish(y: Tensor, dtype: torch.dtype, white: int = 1) -> Tensor:
    """Clip `y` in place, and truncate it to grey levels if the images are uint8."""
    y = y.clamp_(0, white)
    if dtype == torch.uint8:
        y = y if white == 255 else y.mul_(255)
        return y.to(torch.int16).to(dtype)  # faster in two steps, which processors have
    return y.div_(y.new_full((), white)).to(dtype)


def _severity(severity: float) -> float:
    if not isinstance(severity, Real) or isinstance(severity, bool) or not 1 <= severity <= 5:
        raise ValueError(f"severity must be a number from 1 to 5, got {severity!r}")
    return float(severity)


def _check_ids(ids: Tensor, count: int) -> None:
    if not isinstance(ids, Tensor) or ids.dtype != torch.int64 or ids.shape != (count,):
        got = f"{ids.dtype} {tuple(ids.shape)}" if isinstance(ids, Tensor) else type(ids).__name__
        raise ValueError(f"ids must be an int64 tensor [{count}], one per image, got {got}")


def _check_reference(reference: Sequence[np.random.RandomState], count: int) -> None:
    legal = isinstance(reference, Sequence) and len(reference) == count
    if not legal or not all(isinstance(state, np.random.RandomState) for state in reference):
        raise ValueError(
            f"reference must be a list of {count} numpy.random.RandomState, one per image, "
            f"got {reference!r:.100}"
        )
