"""The integer codec against Pillow."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from tttlib.corruptions import jpeg


def images(height: int, width: int) -> torch.Tensor:
    random = torch.Generator().manual_seed(height * 1000 + width)
    noise = torch.randint(0, 256, (2, 3, height, width), generator=random).float()
    return torch.cat([noise, F.avg_pool2d(noise, 5, 1, 2)]).to(torch.uint8)


@pytest.mark.parametrize(
    ("height", "width", "quality"),
    [
        *((64, 48, quality) for quality in (1, 7, 10, 25, 40, 50, 65, 80, 85, 95, 100)),
        *((height, width, 50) for height in (8, 9, 10, 16, 24, 31, 40) for width in (8, 23, 33)),
    ],
)
def test_codec_equals_pillow(height: int, width: int, quality: int) -> None:
    x = images(height, width)
    assert torch.equal(jpeg.codec(x, quality), jpeg._library(x, quality))


def test_library_or_codec() -> None:
    """Whichever is used, the result is the codec's."""
    x = images(32, 32)
    assert torch.equal(jpeg.recompress(x, 40), jpeg.codec(x, 40))


def test_constant_images_survive() -> None:
    x = torch.tensor([0, 128, 255], dtype=torch.uint8).view(3, 1, 1, 1).expand(3, 3, 16, 16)
    assert torch.equal(jpeg.codec(x, 90), x)
