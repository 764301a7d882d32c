"""AugMix views of MEMO: mixtures of an image with chains of weak operations, drawn for each view.

Paper: Hendrycks et al., AugMix, ICLR 2020, arXiv 1912.02781, without its consistency loss, at
severity 1 as MEMO uses it. For each image, first a random crop and flip, which give x; then
    w ~ Dirichlet(1,1,1), m ~ U(0,1);   view = m x + (1-m) sum_i w_i chain_i(x)
where each of three chains applies one to three operations, drawn with replacement from nine, with a
strength from U(0.1, 1) of severity 1: rotate, shear (x, y), translate (x, y), autocontrast,
equalize, solarize and posterize. Weights sum to 1, so that mixing before or after the network's
normalisation is the same.

All views go through an operation at once. Constants of the operations are those of the AugMix code
as remembered. Known deviations: floats, rounded to 256 grey levels for the four operations on grey
levels alone; every move is bilinear; of an image shown in part ("zoom"), the part's edge is
continued.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from tttlib.adapt.common.augmentation import in_full_precision
from tttlib.adapt.common.image_views import flipped

CHAINS, LONGEST = 3, 3
_MOVES = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
OPERATIONS = (*_MOVES, "autocontrast", "equalize", "solarize", "posterize")
SHIFT = 1 / 8  # of "shift": 4 pixels of 32
SCALE, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)  # of "zoom": share of the area, width / height


@in_full_precision
def augmix(images: Tensor, generator: torch.Generator, *, crop: str = "shift") -> Tensor:
    """Return a view of each of the images [N,3,H,W] in [0,1]; `generator` is on the CPU.

    `crop` says what comes first: "shift" moves by up to an eighth of the size, with black beyond
    the image; "zoom" shows a part of 8 to 100 % of the area in full size.
    """
    n, dtype = len(images), torch.float64
    u = torch.rand(n, 5, generator=generator, dtype=dtype)
    x = (_shifted if crop == "shift" else _zoomed)(images.clamp(0, 1), u[:, :4])
    x = flipped(x, u[:, 4] < 0.5)
    # Random numbers of mixtures, [N] or [N,3], and of chains, [N,3,3]
    exponential = -torch.log1p(-torch.rand(n, CHAINS, generator=generator, dtype=dtype))
    w = (exponential / exponential.sum(1, keepdim=True)).to(x)  # Dirichlet(1,1,1)
    m = torch.rand(n, generator=generator, dtype=dtype).to(x)
    length = torch.randint(1, LONGEST + 1, (n, CHAINS, 1), generator=generator)
    which = torch.randint(len(OPERATIONS), (n, CHAINS, LONGEST), generator=generator)
    which = torch.where(torch.arange(LONGEST) < length, which, -1).flatten(0, 1)  # [3N,3]
    strength = torch.rand(n * CHAINS, LONGEST, 2, generator=generator, dtype=dtype)
    chains = x.repeat_interleave(CHAINS, 0)  # [3N,3,H,W]
    for place in range(LONGEST):
        chains = applied(chains, which[:, place], strength[:, place])
    mixed = (chains.unflatten(0, (n, CHAINS)) * w[:, :, None, None, None]).sum(1)
    return torch.lerp(mixed, x, m[:, None, None, None])


def applied(images: Tensor, which: Tensor, strength: Tensor) -> Tensor:
    """Apply to each image [n,3,H,W] in [0,1] the operation with its number `which` [n].

    Parameters
    ----------
    images
        Floating point; overwritten and returned.
    which
        Places in `OPERATIONS`, on the CPU; an image with -1 stays as it is.
    strength
        [n,2] in [0,1], on the CPU: how strong, and (below a half) in the other direction.
    """
    level = 0.1 + 0.9 * strength[:, 0]
    moves = ((which >= 0) & (which < len(_MOVES))).nonzero()[:, 0]
    if len(moves):
        rows = moves.to(images.device)
        theta = _moves(images, which, level, torch.where(strength[:, 1] < 0.5, -1.0, 1.0))
        images.index_copy_(0, rows, _moved(images[rows], theta[moves].to(images)))
    above = (256 - (level * 25.6).int()).to(images)  # of solarize
    grey = (_autocontrast, _equalize, lambda x, rows: _solarize(x, above[rows]), _posterize)
    for number, change in enumerate(grey, len(_MOVES)):
        if len(some := (which == number).nonzero()[:, 0]):
            rows = some.to(images.device)
            levels = images[rows].mul_(255).round_()
            images.index_copy_(0, rows, change(levels, rows).div_(255))
    return images


# -- where pixels go -------------------------------------------------------------------------------


def _moves(images: Tensor, which: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    """Return matrices [n,2,3]: from a pixel to where it comes from, in pixels from the centre."""
    height, width = images.shape[-2:]
    angle = torch.deg2rad((level * 3).int() * sign)  # up to 30 degrees at severity 10
    shear = level * 0.03 * sign
    across, down = ((level * (side / 3) / 10).int() * sign for side in (width, height))
    name = {operation: which == n for n, operation in enumerate(_MOVES)}
    theta = torch.eye(2, 3, dtype=level.dtype).repeat(len(level), 1, 1)
    cos, sin = angle.cos(), angle.sin()
    turned = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)  # [n,2,2]
    theta[:, :, :2] = torch.where(name["rotate"][:, None, None], turned, theta[:, :, :2])
    # Shears keep the first row or column, where the code has its origin
    for row, (axis, side) in enumerate((("x", height), ("y", width))):
        theta[:, row, 1 - row] += torch.where(name[f"shear_{axis}"], shear, 0)
        theta[:, row, 2] += torch.where(name[f"shear_{axis}"], shear * side / 2, 0)
    theta[:, 0, 2] += torch.where(name["translate_x"], across, 0)
    theta[:, 1, 2] += torch.where(name["translate_y"], down, 0)
    return theta


def _moved(images: Tensor, theta: Tensor) -> Tensor:
    """Return images whose pixels come from elsewhere, bilinearly, with black beyond the image."""
    height, width = images.shape[-2:]
    half = images.new_tensor([width, height]) / 2
    scale = torch.cat([half, half.new_ones(1)])  # of the columns of theta [n,2,3]
    grid = F.affine_grid(theta * scale / half[:, None], list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, "bilinear", "zeros", align_corners=False)


def _shifted(images: Tensor, u: Tensor) -> Tensor:
    """Return crops of the images, padded by an eighth of their size with black."""
    n, _, height, width = images.shape
    places = []
    for column, side in enumerate((height, width)):
        far = round(side * SHIFT)
        first = (u[:, column] * (2 * far + 1)).long() - far  # [n]
        places.append((first[:, None] + torch.arange(side)).to(images.device))  # [n,side]
    rows, columns = places[0][:, :, None], places[1][:, None, :]
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)  # [n,H,W]
    each = torch.arange(n, device=images.device)[:, None, None]
    channels_last = images.permute(0, 2, 3, 1)
    taken = channels_last[each, rows.clamp(0, height - 1), columns.clamp(0, width - 1)]
    return (taken * inside[..., None]).permute(0, 3, 1, 2)


def _zoomed(images: Tensor, u: Tensor) -> Tensor:
    """Return random parts of the images in full size, bilinearly.

    A part that would not fit is cut to the image.
    """
    height, width = images.shape[-2:]
    area = height * width * (SCALE[0] + (SCALE[1] - SCALE[0]) * u[:, 0])
    low, high = map(math.log, RATIO)
    ratio = torch.exp(low + (high - low) * u[:, 1])
    axes = []
    for side, length, free in (
        (width, (area * ratio).sqrt(), u[:, 2]),
        (height, (area / ratio).sqrt(), u[:, 3]),
    ):
        length = length.round().clamp(1, side)
        first = (free * (side - length + 1)).floor()
        steps = (torch.arange(side, dtype=u.dtype) + 0.5) / side
        place = first[:, None] + length[:, None] * steps - 0.5  # [n,side], in pixels
        place = torch.minimum(torch.maximum(place, first[:, None]), (first + length - 1)[:, None])
        axes.append((2 * place + 1) / side - 1)  # in half images from the centre
    x, y = axes
    grid = torch.stack(
        [x[:, None, :].expand(-1, height, -1), y[:, :, None].expand(-1, -1, width)], 3
    )
    return F.grid_sample(images, grid.to(images), "bilinear", "border", align_corners=False)


# -- what becomes of grey levels, floats of 0 to 255 -----------------------------------------------


def _autocontrast(x: Tensor, rows: Tensor) -> Tensor:
    """Stretch each channel to all levels; one of a single level stays."""
    low, high = x.amin((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
    spread = high - low
    return torch.where(spread > 0, (x - low) * (255 / torch.where(spread > 0, spread, 1)), x)


def _equalize(x: Tensor, rows: Tensor) -> Tensor:
    """Spread the levels of each channel evenly, by the cumulative histogram of Pillow."""
    level = x.long().flatten(2)  # [n,3,HW]
    counts = torch.zeros(*level.shape[:2], 256, dtype=torch.long, device=x.device)
    counts.scatter_add_(2, level, torch.ones_like(level))
    total = level.shape[2]
    brightest = level.amax(2, keepdim=True)
    step = (total - counts.gather(2, brightest)) // 255  # [n,3,1]; the last level does not count
    before = counts.cumsum(2) - counts
    table = ((before + step // 2) // step.clamp(min=1)).clamp(max=255)  # [n,3,256]
    new = table.to(x.dtype).gather(2, level).view_as(x)
    return torch.where(step[..., None] > 0, new, x)


def _solarize(x: Tensor, above: Tensor) -> Tensor:
    """Invert the levels from `above` [n] on."""
    return torch.where(x >= above[:, None, None, None], 255 - x, x)


def _posterize(x: Tensor, rows: Tensor) -> Tensor:
    """Keep four bits of each level: at severity 1 no fewer are ever drawn."""
    return x.div_(16).floor_().mul_(16)
