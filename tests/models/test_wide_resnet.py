"""Wide residual networks: the keys, sizes and arithmetic of the released WRN-28-10."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from tttlib.models import WideResNet, zoo


def test_wrn_28_10_has_the_released_keys_and_sizes() -> None:
    with torch.device("meta"):
        net = zoo.create("wrn-28-10")
    keys = net.state_dict()
    assert len(keys) == 155
    assert sum(p.numel() for p in net.parameters()) == 36_479_194
    assert keys["fc.weight"].shape == (10, 640)
    shortcuts = [key for key in keys if "convShortcut" in key]
    assert shortcuts == [f"block{k}.layer.0.convShortcut.weight" for k in (1, 2, 3)]
    affine = [m for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert 2 * len(affine) == 50 and 2 * sum(m.num_features for m in affine) == 17_952


def test_forward_is_the_paper_written_out() -> None:
    torch.manual_seed(0)
    net = WideResNet(depth=16, width=2, num_classes=7).double().eval()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 2)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.bias, -0.3, 0.3)
    w = net.state_dict()

    def norm(x: torch.Tensor, at: str) -> torch.Tensor:
        mean, var, weight, bias = (
            w[f"{at}.{k}"].view(-1, 1, 1) for k in ("running_mean", "running_var", "weight", "bias")
        )
        return F.relu((x - mean) / (var + 1e-5).sqrt() * weight + bias)

    images = torch.rand(3, 3, 32, 32, dtype=torch.float64)
    x = F.conv2d(images, w["conv1.weight"], padding=1)
    for group in (1, 2, 3):
        for layer in (0, 1):
            at, stride = f"block{group}.layer.{layer}", 2 if group > 1 and layer == 0 else 1
            a = norm(x, f"{at}.bn1")
            y = F.conv2d(a, w[f"{at}.conv1.weight"], stride=stride, padding=1)
            y = F.conv2d(norm(y, f"{at}.bn2"), w[f"{at}.conv2.weight"], padding=1)
            if layer == 0:
                x = F.conv2d(a, w[f"{at}.convShortcut.weight"], stride=stride)
            x = x + y
    pooled = F.avg_pool2d(norm(x, "bn1"), 8).flatten(1)
    expected = pooled @ w["fc.weight"].T + w["fc.bias"]
    torch.testing.assert_close(net(images), expected)


def test_the_normalisation_is_inside() -> None:
    net = WideResNet(depth=10, width=1).eval()
    images = torch.rand(2, 3, 32, 32)
    raw = net((images - 0.4) / 0.2)
    net.mean.fill_(0.4), net.std.fill_(0.2)
    torch.testing.assert_close(net(images), raw)
    assert not {"mean", "std"} & net.state_dict().keys()


def test_a_strided_stem_takes_twice_the_side() -> None:
    net = WideResNet(depth=10, width=1, num_classes=5, stem_stride=2)
    assert net(torch.rand(2, 3, 64, 64)).shape == (2, 5)


@pytest.mark.parametrize("depth", [4, 9, 15, 27])
def test_depths_that_cannot_be(depth: int) -> None:
    with pytest.raises(ValueError, match=f"depth must be 6 n . 4 .*not {depth}"):
        WideResNet(depth=depth)
