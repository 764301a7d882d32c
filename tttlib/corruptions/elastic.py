"""Elastic transform of ImageNet-C (Hendrycks and Dietterich, ICLR 2019, arXiv 1903.12261).

It is a random affine warp and then a smooth random displacement (Simard, Steinkraus, Platt 2003),
as today's OpenCV and SciPy do it. The released files were made with versions that rounded
coordinates to 1/32 pixel and took a wrong neighbour at the border; `elastic_transform_2018` does so
too.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from tttlib.corruptions.fields import Fields
from tttlib.corruptions.filters import gaussian_filter

# Parameters of severities 1..5 by image size, in pixels: amplitude and sigma of the displacement,
# largest shift of the corners of the affine warp. 224 has 244 times the shares, as released.
_SHARES = {  # of the number of pixels given first
    32: (32, (0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05),
         (0.1, 0.03, 0.03)),
    64: (64, (0, 0, 0.08), (0.05, 0.3, 0.06), (0.1, 0.08, 0.06), (0.1, 0.03, 0.03),
         (0.16, 0.03, 0.02)),
    224: (244, (2, 0.7, 0.1), (2, 0.08, 0.2), (0.05, 0.01, 0.02), (0.07, 0.01, 0.02),
          (0.12, 0.01, 0.02)),
}  # fmt: skip
ELASTIC_TRANSFORM = {
    size: tuple(tuple(pixels * share for share in shares) for shares in table)
    for size, (pixels, *table) in _SHARES.items()
}


def elastic_transform(
    x: Tensor,
    fields: Fields,
    amplitude: float,
    sigma: float,
    shift: float,
    *,
    of_2018: bool = False,
) -> Tensor:
    """Warp (border mirrored without the edge), then displace (border mirrored with the edge).

    x is [B,3,H,W] in [0,1] and is rounded to float32 values, as in the reference. `amplitude` and
    `sigma` of the displacement and the largest `shift` of the warp are in pixels. `of_2018` does
    what OpenCV 3 and SciPy 1.0 did, and hence probably the released files: the warp rounds
    coordinates to 1/32 pixel, and the displacement mixes the edge, within a pixel outside the
    border, with the pixel next to it instead of with itself.
    """
    x = x.float().to(x.dtype)
    size = tuple(x.shape[2:])
    coefficients = _affine(x, fields, shift)
    columns, rows = (_places(part, *size, rounded=of_2018).to(x.dtype) for part in coefficients)
    warped = _bilinear(x, columns, rows, mirror_edge=False).float().to(x.dtype)
    columns, rows = _displacement(x, fields, amplitude, sigma)
    if amplitude == 0:
        return warped
    if of_2018:
        columns, rows = _into_image(columns, size[1]), _into_image(rows, size[0])
    return _bilinear(warped, columns, rows, mirror_edge=not of_2018)


elastic_transform_2018 = partial(elastic_transform, of_2018=True)


def _into_image(place: Tensor, side: int) -> Tensor:
    """Mirror with the edge, leaving places in (-1,0), which the caller then mirrors wrongly."""
    place = place.remainder(2 * side)  # [0,2*side)
    return torch.where(place >= side, 2 * side - 1 - place, place)


def _displacement(
    x: Tensor, fields: Fields, amplitude: float, sigma: float
) -> tuple[Tensor, Tensor]:
    """Return the source coordinates (x, y), [B,H,W] each, of the smooth random displacement."""
    height, width = x.shape[2:]
    across, down = (
        amplitude * gaussian_filter(field, sigma, mode="reflect", cut=3)
        for field in (fields.uniform(-1.0, 1.0, (height, width)) for _ in range(2))
    )  # [B,H,W] each
    across, down = (field.float().to(x.dtype) for field in (across, down))
    rows = torch.arange(height, device=x.device, dtype=x.dtype)[:, None] + down
    return torch.arange(width, device=x.device, dtype=x.dtype) + across, rows


def _affine(x: Tensor, fields: Fields, shift: float) -> tuple[Tensor, Tensor]:
    """Return the coefficients of the warp that moves three corners at random.

    There are [B,3] float64 for the source x and for the source y: the factors of target x and
    target y and what is added. The corners a, b, c of a right angle move to a', b', c', and the
    inverse has a closed form.
    """
    height, width = x.shape[2:]
    middle = torch.tensor([width // 2, height // 2], dtype=torch.float64, device=x.device)
    reach = min(height, width) // 3
    signs = [[1, 1], [1, -1], [-1, -1]]
    corners = middle + reach * torch.tensor(signs, dtype=torch.float64, device=x.device)  # [3,2]
    moved = (corners.float() + fields.uniform(-shift, shift, (3, 2)).float()).double()  # [B,3,2]
    a, b, c = moved.unbind(1)
    (e, f), (g, h) = ((side / (2 * reach)).unbind(1) for side in (b - c, a - b))  # columns, [B]
    determinant = e * h - f * g
    scale = torch.where(determinant == 0, 0, 1 / determinant)
    e, f, g, h = (v * scale for v in (e, f, g, h))
    added_x = corners[1, 0] - h * b[:, 0] + g * b[:, 1]
    added_y = corners[1, 1] - e * b[:, 1] + f * b[:, 0]
    return torch.stack([h, -g, added_x], 1), torch.stack([-f, e, added_y], 1)


def _places(coefficients: Tensor, height: int, width: int, *, rounded: bool = False) -> Tensor:
    """Return a source coordinate for every target pixel, float64 [B,H,W].

    `rounded`: both terms to 1/1024 and their sum to 1/32, halves upwards.
    """
    of_x, of_y, added = (part[:, None, None] for part in coefficients.unbind(1))
    along = of_x * torch.arange(width, device=coefficients.device)  # [B,1,W]
    across = of_y * torch.arange(height, device=coefficients.device)[:, None] + added  # [B,H,1]
    if not rounded:
        return along + across
    fixed = (along * 1024).round() + (across * 1024).round()
    return ((fixed + 16) / 32).floor_().div_(32)


def _bilinear(x: Tensor, columns: Tensor, rows: Tensor, *, mirror_edge: bool) -> Tensor:
    """Interpolate `x` [B,C,H,W] bilinearly at the pixel coordinates [B,H,W]."""
    height, width = x.shape[2:]
    corners = not mirror_edge  # grid_sample mirrors about pixel centres when corners are aligned
    grid = columns.new_empty(*columns.shape, 2)
    for axis, (place, side) in enumerate(((columns, width), (rows, height))):
        if corners:
            torch.mul(place, 2 / (side - 1), out=grid[..., axis])
        else:
            torch.mul(place + 0.5, 2 / side, out=grid[..., axis])
    return F.grid_sample(x, grid.sub_(1), padding_mode="reflection", align_corners=corners)
