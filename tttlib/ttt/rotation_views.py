"""The random views of one image that rotation prediction trains on."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from tttlib.models.rotation_net import TURNS, rotated
from tttlib.ttt.settings import generator_of

BORDERS = {"black": "constant", "mirror": "reflect"}


class Views(NamedTuple):
    """How `steps` times B views of one image are made: each [steps,B]."""

    top: Tensor  # first row of the crop in the padded image, 0 … 2 shift
    left: Tensor
    mirror: Tensor  # bool
    turns: Tensor  # quarter circles, 0 … 3


def draw_views(steps: int, batch_size: int, shift: int, flip: bool, seed: int, image: int) -> Views:
    """Draw the random numbers of all steps on the image of id `image`."""
    random = generator_of(seed, image)
    shape = (steps, batch_size)
    top, left = torch.randint(2 * shift + 1, (2, *shape), generator=random)
    mirror = (torch.rand(shape, generator=random) < 0.5) & flip
    return Views(top, left, mirror, torch.randint(TURNS, shape, generator=random))


def views_of(images: Tensor, views: Views, shift: int, border: str) -> Tensor:
    """Crop images [S,3,H,H] by views [S,B], then mirror and turn them: [S,B,3,H,H]."""
    side = images.shape[-1]
    padded = F.pad(images, (shift,) * 4, mode=BORDERS[border])
    along = torch.arange(side)
    columns = torch.where(views.mirror[..., None], along.flip(0), along) + views.left[..., None]
    rows = views.top[..., None] + along  # [S,B,H]
    s = torch.arange(len(images))[:, None, None, None]
    cropped = padded[s, :, rows[..., None], columns[:, :, None]]  # [S,B,H,H,3]
    flat = cropped.movedim(-1, 2).flatten(0, 1)
    return rotated(flat, views.turns.flatten()).unflatten(0, views.turns.shape)
