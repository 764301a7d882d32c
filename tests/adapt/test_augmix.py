"""AugMix views: each operation against Pillow's, the mixture, and independence of the images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torch import Tensor

from tttlib.adapt.common import augmix as module
from tttlib.adapt.common.augmix import OPERATIONS, applied, augmix


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def photographs(n: int = 3, height: int = 16, width: int = 20) -> Tensor:
    """Smooth images of 256 levels, one channel of one level."""
    coarse = torch.rand(n, 3, 5, 5, generator=generator(2))
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)
    smooth[0, 1] = 0.4
    return (smooth * 255).round() / 255


def pillow(image: Tensor) -> Image.Image:
    return Image.fromarray((image * 255).round().byte().permute(1, 2, 0).numpy())


def tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255


def run(x: Tensor, operation: str, level: float, negative: bool = False) -> Tensor:
    """The operation at one level for all images."""
    strength = torch.tensor([(level - 0.1) / 0.9, 0.0 if negative else 0.9], dtype=torch.float64)
    which = torch.full((len(x),), OPERATIONS.index(operation))
    return applied(x.clone(), which, strength.expand(len(x), -1))


@pytest.mark.parametrize("operation", ["autocontrast", "equalize", "solarize", "posterize"])
def test_grey_levels_become_those_of_pillow(operation: str) -> None:
    bright = photographs() * 0.5 + 0.5
    for x in (photographs(), (bright * 255).round() / 255, torch.full((1, 3, 4, 4), 0.2)):
        for found, image in zip(run(x, operation, 0.95), x, strict=True):
            expected = {
                "autocontrast": lambda i: ImageOps.autocontrast(i),
                "equalize": lambda i: ImageOps.equalize(i),
                "solarize": lambda i: ImageOps.solarize(i, 256 - int(25.6 * 0.95)),
                "posterize": lambda i: ImageOps.posterize(i, 4),
            }[operation](pillow(image))
            # Pillow rounds a stretched level down
            atol = 1.01 / 255 if operation == "autocontrast" else 1e-6
            torch.testing.assert_close(found, tensor(expected), atol=atol, rtol=0)


@pytest.mark.parametrize("negative", [False, True])
@pytest.mark.parametrize("operation", OPERATIONS[:5])
def test_moves_are_those_of_pillow_inside(operation: str, negative: bool) -> None:
    x, level, sign = photographs(), 0.97, -1 if negative else 1
    shear = 0.03 * level * sign
    across, down = (int(level * (side / 3) / 10) * sign for side in (20, 16))
    matrices = {
        "shear_x": (1, shear, 0, 0, 1, 0),
        "shear_y": (1, 0, 0, shear, 1, 0),
        "translate_x": (1, 0, across, 0, 1, 0),
        "translate_y": (1, 0, 0, 0, 1, down),
    }
    for found, image in zip(run(x, operation, level, negative), x, strict=True):
        if operation == "rotate":
            bilinear = Image.Resampling.BILINEAR
            moved = pillow(image).rotate(2 * sign, resample=bilinear)
        else:
            how = (Image.Transform.AFFINE, matrices[operation], Image.Resampling.BILINEAR)
            moved = pillow(image).transform((20, 16), *how)
        inside = (slice(None), slice(2, -2), slice(2, -2))
        torch.testing.assert_close(found[inside], tensor(moved)[inside], atol=1.5 / 255, rtol=0)
        assert not torch.equal(found, image) or operation == "translate_y"


def test_an_image_gets_its_own_operation_or_none() -> None:
    x = photographs(10)
    which = torch.arange(-1, 9)
    strength = torch.rand(10, 2, generator=generator(), dtype=torch.float64)
    together = applied(x.clone(), which, strength)
    assert torch.equal(together[0], x[0])
    for n in range(10):
        alone = applied(x[n : n + 1], which[n : n + 1], strength[n : n + 1])
        torch.testing.assert_close(alone[0], together[n])


@pytest.mark.parametrize("crop", ["shift", "zoom"])
@pytest.mark.parametrize("size", [(16, 20), (33, 33), (1, 1)])
def test_views_differ_stay_in_range_and_repeat(crop: str, size: tuple[int, int]) -> None:
    x = photographs(1, *size).expand(12, -1, -1, -1)
    state = torch.get_rng_state()
    views = augmix(x, generator(), crop=crop)
    assert views.shape == x.shape and views.min() >= 0 and views.max() <= 1 + 1e-6
    assert torch.equal(views, augmix(x, generator(), crop=crop))
    assert torch.equal(torch.get_rng_state(), state)
    if size != (1, 1):
        assert len({tuple(view.flatten().tolist()) for view in views}) == 12
        assert not torch.equal(views, augmix(x, generator(1), crop=crop))


def test_a_mixture_lies_between_the_crop_and_its_chains(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chains of 1 and a crop of 0 leave 1 - m, which is uniform, whatever the three weights."""
    monkeypatch.setattr(module, "applied", lambda x, which, strength: torch.ones_like(x))
    views = augmix(torch.zeros(400, 3, 2, 2), generator())
    shares = views[:, 0, 0, 0]
    torch.testing.assert_close(views, shares.view(-1, 1, 1, 1).expand_as(views))
    assert 0 <= shares.min() < 0.02 and 0.98 < shares.max() <= 1
    assert abs(shares.mean() - 0.5) < 0.05 and abs(shares.var() - 1 / 12) < 0.02


def test_chains_have_one_to_three_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def keep(x: Tensor, which: Tensor, strength: Tensor) -> Tensor:
        seen.append(which)
        return x

    monkeypatch.setattr(module, "applied", keep)
    augmix(torch.zeros(600, 3, 2, 2), generator())
    first, second, third = ((which >= 0).double().mean().item() for which in seen)
    assert first == 1 and abs(second - 2 / 3) < 0.05 and abs(third - 1 / 3) < 0.05
    assert torch.bincount(seen[0], minlength=9).min() > 150
    assert not ((seen[2] >= 0) & (seen[1] < 0)).any()


def test_shifts_reach_an_eighth_and_show_black_beyond() -> None:
    u = torch.rand(300, 4, generator=generator(), dtype=torch.float64)
    x = torch.arange(1, 65).float().view(1, 1, 8, 8).expand(300, 3, -1, -1) / 64
    views = module._shifted(x, u)
    black = (views[:, 0] == 0).flatten(1).sum(1)
    assert set(black.tolist()) == {0, 8, 15}  # not at all, one way by 1 of 8 pixels, both ways
    right = u.new_tensor([[0.5, 0.99, 0, 0]])
    found = module._shifted(x[:1], right)
    assert torch.equal(found[0, 0, :, :-1], x[0, 0, :, 1:]) and not found[0, 0, :, -1].any()


def test_zooms_show_a_part_in_full_size() -> None:
    x = torch.stack(
        torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    )  # row and column of a pixel
    x = torch.cat([x, x[:1]])[None] / 31
    u = torch.rand(200, 4, generator=generator(), dtype=torch.float64)
    views = module._zoomed(x.expand(200, -1, -1, -1), u)
    spans = (views.amax((2, 3)) - views.amin((2, 3)))[:, :2] * 31 + 1  # of rows, columns
    area, ratio = spans.prod(1) / 32**2, spans[:, 1] / spans[:, 0]
    assert 0.06 < area.min() < 0.15 and 0.9 < area.max() <= 1
    assert ratio.min() > 0.65 and ratio.max() < 1.5
    whole = module._zoomed(x, torch.tensor([[1.0, 0.5, 0.3, 0.9]], dtype=torch.float64))
    torch.testing.assert_close(whole, x, atol=1e-5, rtol=0)
