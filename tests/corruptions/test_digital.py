"""contrast against its formula, pixelate against PIL."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from tttlib.corruptions import corrupt, digital


def random_images(count: int, height: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(height)
    return torch.randint(0, 256, (count, 3, height, width), generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize("shape", [(32, 32), (64, 64), (224, 224), (96, 96), (40, 57)])
@pytest.mark.parametrize("severity", [1, 3, 5])
def test_pixelate_equals_pil(shape: tuple[int, int], severity: int) -> None:
    images = random_images(2, *shape)
    size = min(digital.PIXELATE, key=lambda known: abs(known - min(shape)))
    ratio = digital.PIXELATE[size][severity - 1]
    height, width = shape
    for image, found in zip(images, corrupt(images, "pixelate", severity), strict=True):
        picture = Image.fromarray(image.permute(1, 2, 0).numpy())
        small = picture.resize((int(width * ratio), int(height * ratio)), Image.Resampling.BOX)
        expected = np.asarray(small.resize((width, height), Image.Resampling.BOX))
        assert np.array_equal(found.permute(1, 2, 0).numpy(), expected)


def test_pixelate_side_follows_severity() -> None:
    ramp = torch.arange(64, dtype=torch.float32).expand(1, 3, 64, 64) / 255
    sides = [
        corrupt(ramp, "pixelate", severity)[0, 0, 0].unique().numel() for severity in (4, 4.5, 5)
    ]
    assert sides == [38, 35, 32]  # int(64 * .6), int(64 * .55), int(64 * .5)


def test_contrast_keeps_the_mean_of_each_channel() -> None:
    x = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    y = corrupt(x, "contrast", 3)
    assert (y.mean((2, 3)) - x.mean((2, 3))).abs().max() < 1e-6
    assert (y.std((2, 3)) / x.std((2, 3)) - 0.2).abs().max() < 1e-5
    between = corrupt(x, "contrast", 3.5)
    assert (between.std((2, 3)) / x.std((2, 3)) - 0.15).abs().max() < 1e-5
