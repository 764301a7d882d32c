"""The one rule for batches of images at every entrance of the package."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

TOLERANCE = 1e-6
"""How far a value may lie outside of [0, 1]: rounding of an earlier computation."""


def check_images(
    images: object,
    *,
    name: str = "images",
    empty: bool = False,
    finite: bool = True,
    smallest_side: int = 1,
    values: bool = True,
) -> None:
    """Raise ValueError unless `images` is a batch of RGB images as the package takes them.

    That is a tensor of shape [B, 3, H, W], either uint8 in 0..255 or floating point in [0, 1],
    before any normalisation: networks normalise by themselves.

    Parameters
    ----------
    images
        What the caller was given.
    name
        What the caller calls it; stands in the message.
    empty
        Whether B may be 0.
    finite
        Whether values that are not finite are refused. Pass False where they have a meaning.
    smallest_side
        Least height and width in pixels.
    values
        Whether to look at the values, which waits for the device of the images.

    Raises
    ------
    ValueError
        If anything is wrong; the message says what was found and how to convert it.
    """
    if not isinstance(images, Tensor):
        raise ValueError(f"{name} must be a tensor [B,3,H,W], not {_described(images)}")
    shape = list(images.shape)
    if len(shape) != 4 or shape[1] != 3:
        raise ValueError(f"{name} must be [B,3,H,W], not {shape}{_reshaped(shape)}")
    if not (shape[0] or empty):
        raise ValueError(f"{name} must be [B,3,H,W] with B of 1 or more, not {shape}")
    if min(shape[2:]) < smallest_side:
        raise ValueError(f"{name} must be [B,3,H,W] with H, W >= {smallest_side}, not {shape}")
    if images.dtype == torch.uint8:
        return
    if not images.is_floating_point():
        raise ValueError(
            f"{name} must be uint8 in 0..255 or floating point in [0,1], not {images.dtype}; "
            f"convert grey levels with {name}.to(torch.uint8)"
        )
    if values and images.numel():
        _check_range(images, name, finite)


def _check_range(images: Tensor, name: str, finite: bool) -> None:
    low, high = torch.stack(images.detach().aminmax()).tolist()  # NaN if any value is
    if not finite and not (np.isfinite(low) and np.isfinite(high)):
        usable = images.detach()[images.isfinite()]
        if not len(usable):
            return
        low, high = torch.stack(usable.aminmax()).tolist()
    if not (low >= -TOLERANCE and high <= 1 + TOLERANCE):
        raise ValueError(
            f"{name} of floating point must lie in [0,1], not [{low:.4g}, {high:.4g}]: pass them "
            f"before normalisation (networks normalise by themselves), divide grey levels 0..255 "
            f"by 255, and clamp what a resize overshoots"
        )


def _described(images: object) -> str:
    """Return what was given in words, with the conversion."""
    if isinstance(images, np.ndarray):
        axes = ".permute(0, 3, 1, 2)" if images.ndim == 4 and images.shape[-1] in (1, 3, 4) else ""
        return f"a NumPy array {list(images.shape)}; convert it with torch.from_numpy(…){axes}"
    if isinstance(images, list | tuple):
        return f"a {type(images).__name__}; join tensors [3,H,W] with torch.stack"
    return f"{type(images).__name__}"


def _reshaped(shape: list[int]) -> str:
    """Return the remedy for a wrong shape, if it is a known one."""
    match shape:
        case [3, _, _]:
            return "; a single image becomes a batch with images[None]"
        case [_, _, _, 3]:
            return "; put the channels first with images.permute(0, 3, 1, 2)"
        case [_, 4, _, _]:
            return "; drop the alpha channel with images[:, :3]"
        case [_, 1, _, _]:
            return "; repeat grey images with images.expand(-1, 3, -1, -1)"
    return ""
