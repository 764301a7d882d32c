"""Random crops and flips of training images, [B,3,H,W]."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def augment(x: Tensor, random: torch.Generator, *, crop_scale: float, flip: bool) -> Tensor:
    """Take random square crops (side share U(crop_scale,1), resized back bilinearly) and flips.

    One crop and one coin for each image of x [B,3,H,W] in [0,1].
    """
    b = len(x)
    side = crop_scale + (1 - crop_scale) * torch.rand(b, generator=random)
    centre = (1 - side)[:, None] * (2 * torch.rand(b, 2, generator=random) - 1)
    mirror = torch.where(torch.rand(b, generator=random) < 0.5, -1.0, 1.0) if flip else 1.0
    theta = torch.zeros(b, 2, 3)
    theta[:, 0, 0], theta[:, 1, 1], theta[:, :, 2] = side * mirror, side, centre
    grid = F.affine_grid(theta.to(x.device), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, padding_mode="border", align_corners=False)


def shifted(x: Tensor, random: torch.Generator, *, reach: int, flip: bool) -> Tensor:
    """Move images by whole pixels, -reach … reach in both axes with mirrored borders, and flip.

    This is the padded crop of small images; unlike `augment` it never blurs x [B,3,H,W].
    """
    b, (height, width) = len(x), x.shape[2:]
    padded = F.pad(x, (reach,) * 4, mode="reflect")
    top, left = torch.randint(2 * reach + 1, (2, b, 1), generator=random).to(x.device)  # [B,1]
    rows = top + torch.arange(height, device=x.device)  # [B,H]
    columns = left + torch.arange(width, device=x.device)  # [B,W]
    if flip:
        mirrored = torch.rand(b, 1, generator=random).to(x.device) < 0.5
        columns = torch.where(mirrored, columns.flip(1), columns)
    image = torch.arange(b, device=x.device)[:, None, None]
    return padded[image, :, rows[:, :, None], columns[:, None]].movedim(-1, 1)  # [B,3,H,W]
