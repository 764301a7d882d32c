"""CoTTA's augmentation: equal to its steps one by one, and reproducible."""

from __future__ import annotations

from dataclasses import replace

import pytest
import small_networks as small
import torch
from torch import Tensor

from tttlib import adapt
from tttlib.adapt.common import augmentation
from tttlib.adapt.common.augmentation import View
from tttlib.reference.palm import plain_view


def drawn(seed: int, size: int = 16) -> View:
    return augmentation.draw(size, torch.Generator().manual_seed(seed))


def photographs(size: int = 16) -> Tensor:
    """Smooth images, in which a pixel's shift is no accident of noise."""
    coarse = torch.rand(3, 3, 5, 5, generator=torch.Generator().manual_seed(2))
    return torch.nn.functional.interpolate(coarse, (size, size), mode="bicubic").clamp(0, 1)


def test_extremes_never_show_what_lies_outside() -> None:
    for sign in (-1, 1):
        view = replace(drawn(0), degrees=15.0 * sign, shift=(2 * sign, 2), scale=0.9, sigma=0.5)
        ones = torch.ones(1, 3, 16, 16)
        torch.testing.assert_close(augmentation.moved_and_blurred(ones, view), ones)


def test_draws_lie_in_their_ranges_and_reach_the_ends() -> None:
    views = [drawn(seed, 32) for seed in range(400)]
    for name, (low, high) in augmentation.JITTER.items():
        factors = [dict(view.jitter)[name] for view in views]
        assert low <= min(factors) < low + 0.05 * (high - low)
        assert high - 0.05 * (high - low) < max(factors) <= high
    assert {view.shift[0] for view in views} == set(range(-4, 5))
    assert -15 <= min(v.degrees for v in views) < -14 and min(v.sigma for v in views) >= 0.001
    assert min(v.scale for v in views) >= 0.9 and max(v.scale for v in views) <= 1.1
    assert 150 < sum(view.flip for view in views) < 250
    assert len({tuple(name for name, _ in view.jitter) for view in views}) > 100


def test_one_draw_holds_for_the_batch_but_for_the_noise() -> None:
    x = photographs()[:1].expand(5, -1, -1, -1)
    view = augmentation.cotta_view(x, torch.Generator().manual_seed(0))
    apart = (view - view[:1])[1:]
    assert 0 < apart.abs().max() < 0.05 and 0.003 < apart.std() < 0.009
    assert view.min() >= 0 and view.max() <= 1 and view.shape == x.shape


@pytest.mark.parametrize("size", [16, 17, 32])
@pytest.mark.parametrize("seed", range(4))
def test_a_view_equals_its_steps_one_by_one(size: int, seed: int) -> None:
    ours, plain = (torch.Generator().manual_seed(seed) for _ in range(2))
    x = photographs(size).double()
    expected = plain_view(x, plain)
    torch.testing.assert_close(augmentation.cotta_view(x, ours), expected, atol=1e-5, rtol=0)
    assert torch.equal(ours.get_state(), plain.get_state())


@pytest.mark.parametrize("name", ["surgical", "law", "palm"])
def test_seed_and_callable(name: str) -> None:
    net = small.wide_resnet()

    def after(**overrides: object) -> Tensor:
        adapter = adapt.create(name, net, lr=0.01, **overrides)
        adapter(small.images())
        return adapter(small.images(seed=1))

    assert torch.equal(after(seed=3), after(seed=3))
    assert not torch.equal(after(seed=3), after(seed=4))
    seen = []

    def view(x: Tensor) -> Tensor:
        seen.append(x)
        return x

    after(augment=view)
    assert torch.equal(seen[0], small.images()) and len(seen) == 2
