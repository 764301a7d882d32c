"""Motion blur: where its taps lie."""

from __future__ import annotations

import math

import torch

from tttlib.corruptions import motion
from tttlib.corruptions.fields import CounterFields


def test_motion_follows_the_angle() -> None:
    """A white dot becomes a one-sided trace: the image shows where the taps come from."""

    class Fixed(CounterFields):
        def uniform(self, low: float, high: float, shape: tuple[int, ...] = ()) -> torch.Tensor:
            assert (low, high, shape) == (-45.0, 45.0, ())
            return torch.tensor([0.0, 45.0, -45.0])

    x = torch.zeros(3, 3, 32, 32)
    x[:, :, 16, 16] = 1
    level, down, up = motion.motion_blur(x, Fixed(0, torch.arange(3)), 6, 2)[:, 0] * 255
    weights = torch.tensor([math.exp(-(i**2) / 8) for i in range(13)])
    trace = (weights / weights.sum() * 255).floor()
    assert (level[16, 4:17].flip(0) - trace).abs().max() <= 1
    assert level.sum() == level[16, 4:17].sum()
    for image, rows in ((down, slice(4, 17)), (up, slice(16, 29))):
        square = image[rows, 4:17]  # the diagonal that ends at the dot holds everything
        diagonal = (square if rows.start == 4 else square.flip(0)).diagonal()
        assert diagonal.sum() == image.sum() > 240
        assert diagonal.count_nonzero() == 5  # 45 degrees: 0.7 pixels per tap
