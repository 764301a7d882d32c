"""Elastic transform of ImageNet-C (Hendrycks and Dietterich, ICLR 2019, arXiv 1903.12261).

A random affine warp, then a smooth random displacement (Simard, Steinkraus, Platt 2003). Follows
today's OpenCV and SciPy. The released files were made with versions that rounded coordinates to
1/32 pixel and took a wrong neighbour at the border; see the page on faithfulness for the size of
both effects.
"""

from __future__ import annotations

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
    x: Tensor, fields: Fields, amplitude: float, sigma: float, shift: float
) -> Tensor:
    """Affine warp, border mirrored without the edge; displacement, border mirrored with it.

    x: [B,3,H,W] in [0,1]; float32 values, as in the reference.
    """
    height, width = x.shape[2:]
    x = x.float().to(x.dtype)
    warped = _bilinear(x, *_affine(x, fields, shift), mirror_edge=False).float().to(x.dtype)
    across, down = (
        amplitude * gaussian_filter(field, sigma, mode="reflect", cut=3)
        for field in (fields.uniform(-1.0, 1.0, (height, width)) for _ in range(2))
    )  # [B,H,W] each
    across, down = (field.float().to(x.dtype) for field in (across, down))
    if amplitude == 0:
        return warped
    rows = torch.arange(height, device=x.device, dtype=x.dtype)[:, None] + down
    columns = torch.arange(width, device=x.device, dtype=x.dtype) + across
    return _bilinear(warped, columns, rows, mirror_edge=True)


def _affine(x: Tensor, fields: Fields, shift: float) -> tuple[Tensor, Tensor]:
    """Source coordinates (x, y), [B,H,W] each, of the warp that moves three corners at random.

    The corners a, b, c of a right angle move to a', b', c'; the inverse is in closed form.
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
    out_x = torch.arange(width, device=x.device) - b[:, 0, None]  # [B,W]
    out_y = torch.arange(height, device=x.device) - b[:, 1, None]  # [B,H]
    e, f, g, h = ((v * scale)[:, None, None] for v in (e, f, g, h))
    out_x, out_y = out_x[:, None], out_y[:, :, None]
    source_x = h * out_x - g * out_y + corners[1, 0]  # [B,H,W]
    source_y = e * out_y - f * out_x + corners[1, 1]
    return source_x.to(x.dtype), source_y.to(x.dtype)


def _bilinear(x: Tensor, columns: Tensor, rows: Tensor, *, mirror_edge: bool) -> Tensor:
    """Bilinear interpolation of `x` [B,C,H,W] at pixel coordinates [B,H,W]."""
    height, width = x.shape[2:]
    corners = not mirror_edge  # grid_sample mirrors about pixel centres when corners are aligned
    if corners:
        grid = [columns * (2 / (width - 1)) - 1, rows * (2 / (height - 1)) - 1]
    else:
        grid = [(columns + 0.5) * (2 / width) - 1, (rows + 0.5) * (2 / height) - 1]
    return F.grid_sample(x, torch.stack(grid, -1), padding_mode="reflection", align_corners=corners)
