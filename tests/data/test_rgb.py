"""One image file: what is opened, what is refused, and what 8-bit RGB becomes of it."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile, features
from test_damaged import png_header

from tttlib import data
from tttlib.data import DamagedDataError, rgb

RAMP = np.arange(64, dtype=np.float64).reshape(8, 8) / 63  # 0 … 1


def stored(image: Image.Image, kind: str, **options: Any) -> io.BytesIO:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return io.BytesIO(stream.getvalue())


def decode(stream: io.BytesIO, **options: Any) -> np.ndarray:
    return np.asarray(rgb.decode(stream, "the image", "replace it", **options))


def refused(stream: io.BytesIO, message: str, **options: Any) -> None:
    with pytest.raises(DamagedDataError, match=f"^the image {message}; replace it$"):
        decode(stream, **options)


@pytest.mark.parametrize("kind", rgb.FORMATS)
def test_every_format(kind: str) -> None:
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    grey = Image.new("RGB", (8, 8), (90, 90, 90))
    assert np.abs(decode(stored(grey, kind)).astype(int) - 90).max() <= 3


@pytest.mark.parametrize("bits", [12, 16])
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_deep_grey_is_scaled(kind: str, bits: int) -> None:
    if bits == 12:
        if kind != "PPM":
            pytest.skip("Pillow writes no 12 bits")
        levels = (RAMP * 4095).round().astype(">u2")
        stream = io.BytesIO(b"P5 8 8 4095\n" + levels.tobytes())
    else:
        stream = stored(Image.fromarray((RAMP * 65535).round().astype(np.uint16)), kind)
    made = decode(stream)
    assert made.shape == (8, 8, 3) and (made == made[..., :1]).all()
    assert np.abs(made[..., 0] - RAMP * 255).max() <= 0.51


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_pixels_without_a_range_are_refused(kind: type) -> None:
    image = Image.fromarray((RAMP * 1000).astype(kind))
    refused(stored(image, "TIFF"), "has 32-bit pixels, whose range is not known: .*")


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "RGBA", "LA"])
def test_plain_modes_keep_their_colours(mode: str) -> None:
    black_and_white = Image.fromarray((RAMP > 0.5).astype(np.uint8) * 255)
    made = decode(stored(black_and_white.convert("RGB").convert(mode), "TIFF"))
    assert np.array_equal(made[..., 0], (RAMP > 0.5) * 255)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_is_white(mode: str) -> None:
    image = Image.new("RGBA", (8, 8), (10, 10, 10, 255))
    image.paste((10, 10, 10, 0), (0, 0, 8, 4))  # a colour that nobody sees
    image.putpixel((0, 7), (10, 10, 10, 128))
    if mode == "P":
        indexed = Image.new("P", (8, 8), 1)
        indexed.putpalette([10, 10, 10] * 2)
        indexed.paste(0, (0, 0, 8, 4))
        stream = stored(indexed, "PNG", transparency=0)
    else:
        stream = stored(image.convert(mode), "PNG")
    made = decode(stream)
    assert (made[:4] == 255).all() and (made[5, 5] == 10).all()
    assert mode == "P" or 120 < made[7, 0, 0] < 140


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation(orientation: int) -> None:
    seen = Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4) * 20)
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # how a camera stores it
    lying = seen if orientation == 1 else seen.transpose(Image.Transpose(undo[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    for upright, expected in ((True, seen), (False, lying)):
        made = decode(stored(lying, "PNG", exif=exif), upright=upright)
        assert np.array_equal(made[..., 0], np.asarray(expected)), upright


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"


@pytest.mark.parametrize("suffix", ["jpg", "png", "tiff"])
def test_no_other_program_is_started(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*words: object, **more: object) -> None:
        raise AssertionError(f"started {words}")

    monkeypatch.setattr(subprocess, "Popen", never)
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / f"a.{suffix}").write_bytes(EPS)
    with pytest.raises(DamagedDataError, match=f"a.{suffix} cannot be decoded"):
        data.folder(tmp_path, size=8)


@pytest.mark.parametrize("kind", ["PCX", "ICO", "TGA", "PDF"])
def test_formats_that_are_not_offered(kind: str) -> None:
    stream = stored(Image.new("RGB", (32, 32)), kind)
    refused(stream, r"cannot be decoded \(it is damaged, or no JPEG, .* file\)")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [10_000, 13_000, 60_000])
def test_pixel_bombs_are_refused_by_their_header(
    side: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageFile.ImageFile, "load", None)  # no pixel is decoded
    with pytest.raises(DamagedDataError, match=r"(by its header, more than|exceeds limit of) .*"):
        decode(io.BytesIO(png_header(side, side)))


def test_another_size_is_refused_before_decoding() -> None:
    refused(io.BytesIO(png_header(300, 200)), "is 300x200, not 64x64", size=64)


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"RIFF\0\0\0\0WEBPVP8 "])
def test_what_is_cut(content: bytes) -> None:
    refused(io.BytesIO(content), r"cannot be decoded \(.*\)")
