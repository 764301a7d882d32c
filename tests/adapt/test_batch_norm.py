"""BatchNorm at test time: batch statistics, the prior, views, and batches without statistics."""

from __future__ import annotations

import copy

import pytest
import small_networks as small
import torch
from torch import nn

from tttlib.adapt.common import batch_norm


def converted(source: nn.Module, prior: float = 0.0) -> nn.Module:
    assert batch_norm.use_batch_statistics(source, prior=prior) == 1
    return source


def layer(affine: bool = True) -> nn.BatchNorm2d:
    torch.manual_seed(3)
    found = nn.BatchNorm2d(4, affine=affine).double().eval()
    found.running_mean.normal_()
    found.running_var.uniform_(0.5, 2)
    if affine:
        nn.init.normal_(found.weight)
        nn.init.normal_(found.bias)
    return found


def x(n: int = 6) -> torch.Tensor:
    return torch.randn(n, 4, 3, 3, generator=torch.Generator().manual_seed(1)).double()


@pytest.mark.parametrize("affine", [True, False])
def test_batch_statistics_are_those_of_train_mode(affine: bool) -> None:
    ours = converted(layer(affine))
    torch.testing.assert_close(ours(x()), layer(affine).train()(x()), atol=1e-12, rtol=0)
    assert torch.equal(ours.running_mean, layer().running_mean)


@pytest.mark.parametrize("prior", [1.0, 16.0, 1e12])
def test_prior_mixes_the_statistics(prior: float) -> None:
    source = layer()
    ours = converted(source, prior)
    share = prior / (prior + 6)
    mixed = layer()
    mixed.running_mean.lerp_(x().mean((0, 2, 3)), 1 - share)
    mixed.running_var.lerp_(x().var((0, 2, 3), correction=0), 1 - share)
    torch.testing.assert_close(ours(x()), mixed(x()), atol=1e-12, rtol=0)


def test_one_value_a_channel_takes_the_source_statistics() -> None:
    flat = nn.BatchNorm1d(4).eval()
    flat.running_mean.fill_(2.0)
    ours, one = converted(copy.deepcopy(flat)), torch.randn(1, 4)
    torch.testing.assert_close(ours(one), flat(one))
    two = torch.randn(2, 4)
    torch.testing.assert_close(ours(two).mean(0), torch.zeros(4), atol=1e-5, rtol=0)
    without = nn.BatchNorm1d(4, track_running_stats=False)
    with pytest.raises(ValueError, match="more than 1 value"):
        converted(without)(one)


@pytest.mark.parametrize("format", [torch.contiguous_format, torch.channels_last])
def test_views_have_statistics_of_their_own(format: torch.memory_format) -> None:
    net = small.wide_resnet().double().to(memory_format=format)
    batch_norm.use_batch_statistics(net)
    views = [small.images(seed=t).double() * (t + 1) for t in range(3)]
    with torch.no_grad():
        expected = torch.stack([net(view) for view in views], 1)  # [B,V,C]
        merged = torch.stack(views, 1).flatten(0, 1)  # [B V,3,H,W]
        with batch_norm.views(net, 3):
            found = net(merged.contiguous(memory_format=format)).unflatten(0, (6, 3))
        mixed = net(merged).unflatten(0, (6, 3))
    torch.testing.assert_close(found, expected, atol=1e-10, rtol=0)
    assert (mixed - expected).abs().max() > 0.01
    with torch.no_grad():
        torch.testing.assert_close(net(views[1]), expected[:, 1], atol=1e-10, rtol=0)


def test_prior_and_views_exclude_each_other() -> None:
    net = small.wide_resnet()
    batch_norm.use_batch_statistics(net, prior=4)
    with batch_norm.views(net, 2), pytest.raises(ValueError, match="cannot be had together"):
        net(small.images())
