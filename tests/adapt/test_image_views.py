"""Random views: against torchvision image by image, determinism, independence of the images."""

from __future__ import annotations

import pytest
import torch
from small_networks import exact_images as images
from torchvision.transforms.v2 import functional as reference

from tttlib.adapt.common import image_views
from tttlib.adapt.common.image_views import Recipe, random_flip, random_view

NOTHING = {"jitter": 0.0, "grey": 0.0, "blur": 0.0, "flip": 0.0}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("ours", "theirs", "values"),
    [
        ("_brightness", "adjust_brightness", (0.6, 0.9, 1.4)),
        ("_contrast", "adjust_contrast", (0.6, 0.9, 1.4)),
        ("_saturation", "adjust_saturation", (0.6, 0.9, 1.4)),
        ("_hue", "adjust_hue", (-0.1, 0.03, 0.1)),
    ],
)
def test_colours_are_those_of_torchvision(
    ours: str, theirs: str, values: tuple[float, ...]
) -> None:
    x = images(3)
    x[0] = 0.4  # grey
    x[1, :, :2, :2] = 0.0
    ours_all = getattr(image_views, ours)(x, torch.tensor(values, dtype=torch.float64))
    for got, image, value in zip(ours_all, x, values, strict=True):
        expected = getattr(reference, theirs)(image, value)
        torch.testing.assert_close(got, expected, rtol=0, atol=2e-4)  # its grey weights: 4 digits


def test_blur_is_that_of_torchvision_inside() -> None:
    x = images(2, size=24)
    sigma = (0.5, 1.5)
    blurred = image_views._blur(x, torch.tensor(sigma, dtype=torch.float64), radius=6)
    for got, image, s in zip(blurred, x, sigma, strict=True):
        expected = reference.gaussian_blur(image, [13, 13], [s, s])
        inside = slice(6, -6)
        torch.testing.assert_close(got[:, inside, inside], expected[:, inside, inside])
    flat = torch.full_like(x, 0.3)
    torch.testing.assert_close(image_views._blur(flat, torch.ones(2).double(), 6), flat)


def test_every_image_has_its_own_view() -> None:
    x = images(1).expand(16, -1, -1, -1)
    views = random_view(x, generator())
    assert len({tuple(view.flatten().tolist()) for view in views}) == 16
    assert views.min() >= 0 and views.max() <= 1
    assert torch.equal(views, random_view(x, generator()))
    assert not torch.equal(views, random_view(x, generator(1)))


def test_probabilities() -> None:
    x = images(400, size=4)
    assert torch.equal(random_view(x, generator(), Recipe(**NOTHING)), x)
    for name in NOTHING:
        always = random_view(x, generator(), Recipe(**{**NOTHING, name: 1.0}))
        changed = (always != x).flatten(1).any(1).double().mean()
        assert changed > 0.99
        half = random_view(x, generator(), Recipe(**{**NOTHING, name: 0.5}))
        assert 0.4 < (half != x).flatten(1).any(1).double().mean() < 0.6
    grey = random_view(x, generator(), Recipe(**{**NOTHING, "grey": 1.0}))
    assert torch.equal(grey[:, 0], grey[:, 2])
    some = random_flip(x, generator())
    was = (some == x).flatten(1).all(1)
    assert torch.equal(some[~was], x[~was].flip(-1)) and 100 < was.sum() < 300
