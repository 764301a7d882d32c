"""Gradients of convolutions' weights apart from the backward pass."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tttlib.adapt.common.partial_gradients import tapped


def gradients(net: nn.Module, share: float = 1.0) -> tuple[list[Tensor], list[Tensor]]:
    """By autograd, and from the taps."""
    x = torch.randn(4, 3, 9, 9, generator=torch.Generator().manual_seed(1)).double()
    with tapped(net) as taps:
        loss = net(x).square().sum()
    outputs = [tap.y for tap in taps.values()]
    weights = [dict(net.named_parameters())[name] for name in taps]
    expected = torch.autograd.grad(loss, weights, retain_graph=True)
    at = torch.autograd.grad(loss, outputs)
    found = [tap.gradient(dy, share) for tap, dy in zip(taps.values(), at, strict=True)]
    return list(expected), found


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, stride=2, bias=False),
        nn.BatchNorm2d(8),
        nn.Conv2d(8, 5, 1),
    ).double()


def test_whole_gradients_are_autograds() -> None:
    expected, found = gradients(network())
    assert len(found) == 3
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-12, rtol=0)


@pytest.mark.parametrize("share", [0.25, 0.5])
def test_a_part_is_the_gradient_of_some_channels(share: float) -> None:
    expected, found = gradients(network(), share)
    for part, whole in zip(found, expected, strict=True):
        assert len(part) == int(share * len(whole))
        for channel in part:
            assert min((channel - other).abs().max() for other in whole) < 1e-12
        assert share / 2 * whole.abs().sum() < part.abs().sum() < whole.abs().sum()


def test_what_cannot_be_had_apart() -> None:
    shared = nn.Conv2d(3, 3, 3, padding=1)
    net = nn.Sequential(
        shared,
        shared,
        nn.Conv2d(3, 3, 3),
        nn.ReLU(inplace=True),
        nn.Conv2d(3, 3, 1, groups=3),
        nn.Conv2d(3, 3, 3, padding="same"),
        nn.Conv2d(3, 3, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(3, 3, 1),
    )
    with tapped(net) as taps:
        net(torch.randn(2, 3, 9, 9))
    assert {name: tap.usable for name, tap in taps.items()} == {
        "0.weight": False,
        "2.weight": False,
        "7.weight": True,
    }
    assert not any(module._forward_hooks for module in net.modules())
