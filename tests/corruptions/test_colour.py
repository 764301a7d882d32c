"""The closed forms of brightness and saturation against the way through the hue."""

from __future__ import annotations

import colorsys

import pytest
import torch

from tttlib.corruptions import colour
from tttlib.corruptions.fields import CounterFields

FIELDS = CounterFields(0, torch.arange(2))


def images() -> torch.Tensor:
    """[2,3,16,16]: random colours, then greys, black, white and pure colours."""
    x = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    x[0, :, 0] = torch.linspace(0, 1, 16)
    x[0, :, 1, 0], x[0, :, 1, 1] = torch.tensor([1.0, 0, 0]), torch.tensor([0, 1.0, 1.0])
    return x


@pytest.mark.parametrize("how", [(0.05,), (0.5,), (0.3, 0), (2, 0.1), (30, 0.2)])
def test_closed_forms(how: tuple[float, ...]) -> None:
    """Brightness has one parameter, saturate two."""
    function, x = (colour.brightness, colour.saturate)[len(how) - 1], images()
    assert (function(x, FIELDS, *how) - function(x.double(), FIELDS, *how)).abs().max() < 1e-5


def test_hue_equals_the_standard_library() -> None:
    x = images().double()
    found = torch.stack(colour._to_hsv(x), 1).movedim(1, -1).reshape(-1, 3)
    pixels = x.movedim(1, -1).reshape(-1, 3).tolist()
    expected = torch.tensor([colorsys.rgb_to_hsv(*pixel) for pixel in pixels]).double()
    distance = (found - expected).abs()
    distance[:, 0] = torch.minimum(distance[:, 0], 1 - distance[:, 0])  # the hue is a circle
    assert distance.max() < 1e-6
    assert (colour._to_rgb(*colour._to_hsv(x)) - x).abs().max() < 1e-12


def test_grey_turns_reddish() -> None:
    grey = torch.full((1, 3, 8, 8), 0.6)
    out = colour.saturate(grey, FIELDS, 5, 0.1)
    assert torch.allclose(out[0, :, 0, 0], torch.tensor([0.6, 0.54, 0.54]))
