"""Decoding one image file as 8-bit RGB: what is opened, what is refused, and what becomes of it.

Only the formats in `FORMATS` are opened, whatever a file is called, so no foreign program runs
(Pillow hands PostScript to Ghostscript). Size and format are looked at before any pixel is decoded.
Grey, palette and CMYK images become RGB; 16-bit grey is scaled to 8 bits; 32-bit and
floating-point pixels, which have no fixed range, are refused; what is transparent is laid on
white. Of several frames the first is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, ImageOps

from tttlib.runtime.errors import DamagedDataError

FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "PPM", "TIFF", "GIF", "AVIF")
SUFFIXES = (
    ".avif", ".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm",
    ".ppm", ".tif", ".tiff", ".webp",
)  # fmt: skip
VERSION = 1  # raise when decoding changes
_BITS_PER_SAMPLE = 258  # a tag of TIFF


def decode(
    file: Path | IO[bytes],
    where: str,
    remedy: str,
    *,
    size: int | None = None,
    formats: Sequence[str] = FORMATS,
    upright: bool = False,
) -> Image.Image:
    """Decode an image file as RGB.

    Parameters
    ----------
    file
        A path or a stream.
    where
        What to call the file in a message.
    remedy
        Ends the message.
    size
        Side in pixels that the image must have.
    formats
        The formats that are admitted, of `FORMATS`.
    upright
        Whether to turn the image as its EXIF orientation says.

    Raises
    ------
    DamagedDataError
        For everything that cannot be decoded or is refused.
    """
    try:
        with Image.open(file, formats=_installed(tuple(formats))) as image:
            (width, height), limit = image.size, Image.MAX_IMAGE_PIXELS
            if size is not None and image.size != (size, size):
                raise _Refused(f"is {width}x{height}, not {size}x{size}")
            if limit is not None and width * height > limit:
                raise _Refused(f"is {width}x{height} by its header, more than {limit:,} pixels")
            if upright:
                ImageOps.exif_transpose(image, in_place=True)
            return _eight_bits(image)
    except _Refused as error:
        raise DamagedDataError(f"{where} {error}; {remedy}") from error
    except Exception as error:  # arbitrary bytes fail in arbitrary ways
        unknown = isinstance(error, Image.UnidentifiedImageError)
        reason = f"it is damaged, or no {', '.join(formats)} file" if unknown else error
        raise DamagedDataError(f"{where} cannot be decoded ({reason}); {remedy}") from error


class _Refused(Exception):
    """An image that could be decoded but is not wanted."""


@cache
def _installed(formats: tuple[str, ...]) -> list[str]:
    Image.init()  # AVIF is not in every version of Pillow
    return [name for name in formats if name in Image.OPEN]


def _eight_bits(image: Image.Image) -> Image.Image:
    deep = image.mode == "I" and image.format in ("PNG", "PPM")  # 16 bits in these formats
    if deep or image.mode.startswith("I;16"):
        bits = getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE, (16,))[0]
        levels = np.asarray(image).astype(np.int64)
        scaled = (levels * 255 * 2 + 2**bits - 1) // (2 * (2**bits - 1))  # rounded
        return Image.fromarray(scaled.clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise _Refused("has 32-bit pixels, whose range is not known: save it with 8 or 16 bits")
    if image.has_transparency_data:
        on_white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(on_white, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")
