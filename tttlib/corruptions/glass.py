"""Glass blur of ImageNet-C (Hendrycks and Dietterich, ICLR 2019, arXiv 1903.12261).

The released loop is meant to swap each pixel with a random neighbour. The pixel that it saves is a
view of the image, however, so it only copies. A pass of copies is a map from pixel to source, which
needs no loop over pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tttlib.corruptions.fields import Fields
from tttlib.corruptions.filters import gaussian_filter

# Parameters of severities 1..5 by image size.
GLASS_BLUR = {  # sigma in pixels, largest offset in pixels, passes
    32: ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
    64: ((0.1, 1, 1), (0.5, 1, 1), (0.6, 1, 2), (0.7, 2, 1), (0.9, 2, 2)),
    224: ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
}


def glass_blur(x: Tensor, fields: Fields, sigma: float, reach: int, passes: int) -> Tensor:
    """Blur, truncate to grey levels, copy neighbouring pixels, and blur again.

    x is [B,3,H,W] in [0,1]. Offsets are uniform on -reach to reach - 1, so the content drifts to
    the bottom right.
    """
    height, width = x.shape[2:]
    levels = (gaussian_filter(x, sigma) * 255).floor()
    inner = (height - 2 * reach, width - 2 * reach)
    offsets = fields.integers(-reach, reach, (passes, *inner, 2))  # both axes descending; (dx,dy)
    offsets = offsets.flip(2, 3)  # ascending
    source = torch.arange(height * width, device=x.device).expand(len(x), -1)  # [B,H*W]
    for one_pass in range(passes):
        source = source.gather(1, _sources(offsets[:, one_pass], height, width, reach))
    levels = levels.flatten(2).gather(2, source[:, None].expand(-1, 3, -1)).view(x.shape)
    return gaussian_filter(levels / levels.new_full((), 255), sigma)


def _sources(offsets: Tensor, height: int, width: int, reach: int) -> Tensor:
    """Return where the value of each pixel comes from in one pass, int64 [B,H*W].

    `offsets` are the (dx,dy) of the visited pixels, int64 [B,H-2*reach,W-2*reach,2]. Pixels are
    visited from the bottom right to the top left. A neighbour that was visited before has a new
    value already, so its source is followed, by pointer doubling.
    """
    rows = slice(reach + 1, height - reach + 1)
    columns = slice(reach + 1, width - reach + 1)
    own = torch.arange(height * width, device=offsets.device).view(height, width)
    visited = torch.zeros_like(own, dtype=torch.bool)
    visited[rows, columns] = True
    neighbour = own.repeat(len(offsets), 1, 1)  # [B,H,W]
    neighbour[:, rows, columns] += offsets[..., 1] * width + offsets[..., 0]
    own, neighbour = own.flatten(), neighbour.flatten(1)  # [H*W], [B,H*W]
    if reach == 1:  # offsets are 0 and -1, so no neighbour was visited before
        return neighbour
    earlier = (neighbour > own) & visited.flatten()[neighbour]
    following = torch.where(earlier, neighbour, own)
    while True:
        doubled = following.gather(1, following)
        if torch.equal(doubled, following):
            return neighbour.gather(1, following)
        following = doubled
