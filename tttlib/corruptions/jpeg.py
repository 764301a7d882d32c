"""JPEG compression as a batched integer codec that equals libjpeg-turbo bit for bit.

It does what Pillow does by default: baseline tables of Annex K (ITU-T T.81), 4:2:0 chroma, the
accurate integer DCT of Loeffler, Ligtenberg and Moschytz (1989) and "fancy" upsampling. Entropy
coding is left out because it loses nothing. A pass of the DCT rounds nothing on its way, so it is a
matrix of integers. Sums stay below 2^53, hence float64 products of matrices are exact in any order
and on every device.
"""

from __future__ import annotations

import io
from functools import lru_cache

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from tttlib.corruptions.fields import Fields

JPEG_COMPRESSION = {  # quality, by image size, severities 1..5
    32: (80, 65, 58, 50, 40),
    64: (65, 58, 50, 40, 25),
    224: (25, 18, 15, 10, 7),
}

# Rows of the DCT times 2^13, as the fixed-point constants of the integer algorithm add up.
_DCT = (
    (8192, 8192, 8192, 8192, 8192, 8192, 8192, 8192),
    (11363, 9633, 6437, 2260, -2260, -6437, -9633, -11363),
    (10703, 4433, -4433, -10703, -10703, -4433, 4433, 10703),
    (9633, -2259, -11362, -6436, 6436, 11362, 2259, -9633),
    (8192, -8192, -8192, 8192, 8192, -8192, -8192, 8192),
    (6437, -11362, 2261, 9633, -9633, -2261, 11362, -6437),
    (4433, -10704, 10704, -4433, -4433, 10704, -10704, 4433),
    (2260, -6436, 9633, -11363, 11363, -9633, 6436, -2260),
)
_LUMA = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMA = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 8,) * 4,
)


def jpeg_compression(x: Tensor, fields: Fields, quality: float) -> Tensor:
    """Save the images as JPEG and read them again.

    x is [B,3,H,W] in [0,1]. It is rounded to grey levels first, and `quality` to a whole number.
    """
    levels = recompress((x * 255).round().to(torch.uint8), round(quality)).to(x.dtype)
    return levels / levels.new_full((), 255)


def recompress(images: Tensor, quality: int) -> Tensor:
    """Pass uint8 images [B,3,H,W] through JPEG of a quality from 1 to 100.

    Large images on the CPU go through Pillow if that equals the codec below, which it does if it
    was built with libjpeg-turbo: C is faster than tensors there, but costs 0.2 ms an image.
    """
    large = images.shape[2] * images.shape[3] > 128**2
    if large and images.device.type == "cpu" and _library_is_equal():
        return _library(images, quality)
    return codec(images, quality)


def codec(images: Tensor, quality: int) -> Tensor:
    """Pass uint8 images [B,3,H,W] through JPEG, computed with tensors alone."""
    height, width = images.shape[2:]
    red, green, blue = images.int().unbind(1)
    half = 2**15
    luma = (19595 * red + 38470 * green + 7471 * blue + half) >> 16
    cb = (-11059 * red - 21709 * green + half * blue + 128 * 2**16 + half - 1) >> 16
    cr = (half * red - 27439 * green - 5329 * blue + 128 * 2**16 + half - 1) >> 16
    chroma = _halve(_extend(torch.stack([cb, cr], 1), 2, 16))  # [B,2,H/2,W/2]
    luma = _through_dct(_extend(luma[:, None], 8, 8), _table(quality, _LUMA))
    chroma = _through_dct(_extend(chroma, 8, 8), _table(quality, _CHROMA))
    luma = luma[:, 0, :height, :width]
    chroma = chroma[:, :, : -(-height // 2), : -(-width // 2)]
    cb, cr = _double(chroma)[:, :, :height, :width].sub_(128).unbind(1)
    red = luma + ((91881 * cr + half) >> 16)
    green = luma + ((-22554 * cb - 46802 * cr + half) >> 16)
    blue = luma + ((116130 * cb + half) >> 16)
    return torch.stack([red, green, blue], 1).clamp_(0, 255).to(torch.uint8)


def _pick(planes: Tensor, axis: int, start: int, stop: int) -> Tensor:
    """Return the places from `start` to `stop` - 1 of an axis; beyond an edge, the edge."""
    index = torch.arange(start, stop, device=planes.device).clamp_(0, planes.shape[axis] - 1)
    return planes.index_select(axis, index)


def _extend(planes: Tensor, rows: int, columns: int) -> Tensor:
    """Repeat the edges of int32 [B,C,H,W] until the sides are multiples of `rows`, `columns`."""
    for axis, multiple in ((2, rows), (3, columns)):
        side = planes.shape[axis]
        if side % multiple:
            planes = _pick(planes, axis, 0, side + -side % multiple)
    return planes


def _halve(planes: Tensor) -> Tensor:
    """Average 2x2 values of int32 [B,C,H,W], rounding down in even and up in odd columns."""
    total = planes[:, :, ::2] + planes[:, :, 1::2]
    total = total[..., ::2] + total[..., 1::2]
    bias = torch.arange(total.shape[3], device=planes.device, dtype=torch.int32) % 2 + 1
    return (total + bias) >> 2


def _double(planes: Tensor) -> Tensor:
    """Double both sides of int32 [B,C,H,W], with weights 3 and 1 for nearer and farther pixels."""
    rows, columns = planes.shape[2:]
    above, below = (_pick(planes, 2, by, by + rows) for by in (-1, 1))
    tall = torch.stack([3 * planes + above, 3 * planes + below], 3).flatten(2, 3)  # [B,C,2H,W]
    left, right = (_pick(tall, 3, by, by + columns) for by in (-1, 1))
    even, odd = (3 * tall + left + 8) >> 4, (3 * tall + right + 7) >> 4
    return torch.stack([even, odd], 4).flatten(3)  # [B,C,2H,2W]


def _through_dct(planes: Tensor, table: Tensor) -> Tensor:
    """Quantise the DCT of 8x8 blocks of int32 [B,C,H,W], whose sides are multiples of 8."""
    dct = torch.tensor(_DCT, dtype=torch.float64, device=planes.device)  # [8,8]
    table = table.to(planes.device)
    x = (planes - 128).double()
    x = x.unflatten(3, (-1, 8)).unflatten(2, (-1, 8)).transpose(3, 4)  # [B,C,H/8,W/8,8,8]
    x = _shift(x @ dct.T, 11)
    x = _shift(dct @ x, 15)  # 8 times the DCT
    x = x.sign() * ((x.abs() + 4 * table) / (8 * table)).floor() * table
    x = _shift(dct.T @ x, 11)
    x = _shift(x @ dct, 18)
    return (x + 128).clamp_(0, 255).transpose(3, 4).flatten(4).flatten(2, 3).int()


def _shift(x: Tensor, bits: int) -> Tensor:
    """Return x / 2^bits rounded to the nearest whole number, halves upwards."""
    return ((x + 2 ** (bits - 1)) / 2**bits).floor()


def _table(quality: int, base: tuple) -> Tensor:
    """Return a table of Annex K scaled to a quality, float64 [8,8]."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    table = (torch.tensor(base) * scale + 50) // 100
    return table.clamp(1, 255).double()


def _library(images: Tensor, quality: int) -> Tensor:
    pixels = images.movedim(1, -1).contiguous().numpy()  # [B,H,W,3]
    out = np.empty_like(pixels)
    for image, place in zip(pixels, out, strict=True):
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=quality)
        place[:] = np.asarray(Image.open(file))
    return torch.from_numpy(out).movedim(-1, 1)


@lru_cache(maxsize=1)
def _library_is_equal() -> bool:
    """Return whether Pillow's JPEG equals the codec on rough and on smooth images."""
    random = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 256, (4, 3, 21, 43), generator=random, dtype=torch.uint8)
    smooth = F.avg_pool2d(noise.float(), 5, 1, 2).to(torch.uint8)
    images = torch.cat([noise, smooth])
    return all(torch.equal(_library(images, q), codec(images, q)) for q in (7, 50, 85))
