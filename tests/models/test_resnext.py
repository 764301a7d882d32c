"""ResNeXt: the keys, sizes and arithmetic of AugMix's CIFAR network."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from tttlib.models import ResNeXt, zoo


def test_resnext_29_has_the_released_keys_and_sizes() -> None:
    with torch.device("meta"):
        net = zoo.create("resnext-29")
    keys = net.state_dict()
    assert sum(p.numel() for p in net.parameters()) == 6_900_132
    affine = [m for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert 2 * len(affine) == 62 and 2 * sum(m.num_features for m in affine) == 25_216
    convolutions = [m for m in net.modules() if isinstance(m, torch.nn.Conv2d)]
    assert sum(m.weight.numel() for m in convolutions) + 25_216 == 6_797_632
    assert all(m.bias is None for m in convolutions)

    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    expected = {"conv_1_3x3.weight", "classifier.weight", "classifier.bias"}
    expected |= {f"bn_1.{k}" for k in norm}
    for stage in (1, 2, 3):
        at = f"stage_{stage}.0.downsample"
        expected |= {f"{at}.0.weight"} | {f"{at}.1.{k}" for k in norm}
        for i in range(3):
            at = f"stage_{stage}.{i}"
            expected |= {f"{at}.{c}.weight" for c in ("conv_reduce", "conv_conv", "conv_expand")}
            expected |= {f"{at}.{b}.{k}" for b in ("bn_reduce", "bn", "bn_expand") for k in norm}
    assert keys.keys() == expected
    assert keys["classifier.weight"].shape == (100, 1024)
    inner = [keys[f"stage_{s}.0.conv_conv.weight"].shape for s in (1, 2, 3)]
    assert inner == [(128, 32, 3, 3), (256, 64, 3, 3), (512, 128, 3, 3)]


def test_forward_is_the_paper_written_out() -> None:
    """Groups as separate convolutions on slices, batch norm by hand, an 8x8 average pool."""
    torch.manual_seed(0)
    cardinality, base = 3, 20
    net = ResNeXt(depth=20, cardinality=cardinality, base_width=base, num_classes=7)
    net = net.double().eval()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 2)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.bias, -0.3, 0.3)
    torch.nn.init.uniform_(net.classifier.bias, -1, 1)
    w = net.state_dict()

    def norm(x: torch.Tensor, at: str) -> torch.Tensor:
        mean, var, weight, bias = (
            w[f"{at}.{k}"].view(-1, 1, 1) for k in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (var + 1e-5).sqrt() * weight + bias

    def grouped(x: torch.Tensor, weight: torch.Tensor, stride: int) -> torch.Tensor:
        pairs = zip(x.chunk(cardinality, 1), weight.chunk(cardinality, 0), strict=True)
        return torch.cat([F.conv2d(a, b, stride=stride, padding=1) for a, b in pairs], 1)

    images = torch.rand(2, 3, 32, 32, dtype=torch.float64)
    x = F.relu(norm(F.conv2d(images, w["conv_1_3x3.weight"], padding=1), "bn_1"))
    for stage, planes in ((1, 64), (2, 128), (3, 256)):
        for layer in (0, 1):
            at, stride = f"stage_{stage}.{layer}", 2 if stage > 1 and layer == 0 else 1
            y = F.relu(norm(F.conv2d(x, w[f"{at}.conv_reduce.weight"]), f"{at}.bn_reduce"))
            assert y.shape[1] == cardinality * (planes * base // 64)
            y = F.relu(norm(grouped(y, w[f"{at}.conv_conv.weight"], stride), f"{at}.bn"))
            y = norm(F.conv2d(y, w[f"{at}.conv_expand.weight"]), f"{at}.bn_expand")
            if layer == 0:
                x = F.conv2d(x, w[f"{at}.downsample.0.weight"], stride=stride)
                x = norm(x, f"{at}.downsample.1")
            x = F.relu(x + y)
    pooled = F.avg_pool2d(x, 8).flatten(1)
    assert pooled.shape == (2, 1024)
    torch.testing.assert_close(net.features(images), pooled)
    expected = pooled @ w["classifier.weight"].T + w["classifier.bias"]
    torch.testing.assert_close(net(images), expected)
    torch.testing.assert_close(net.classify(images), expected)


def test_the_normalisation_is_inside() -> None:
    net = ResNeXt(depth=11, num_classes=4).eval()
    images = torch.rand(2, 3, 32, 32)
    raw = net((images - 0.5) / 0.25)
    net.mean.fill_(0.5), net.std.fill_(0.25)
    torch.testing.assert_close(net(images), raw)
    assert not {"mean", "std"} & net.state_dict().keys()


@pytest.mark.parametrize("depth", [2, 9, 28, 30])
def test_depths_that_cannot_be(depth: int) -> None:
    with pytest.raises(ValueError, match=rf"depth must be 9 n \+ 2 .*not {depth}"):
        ResNeXt(depth=depth)


@pytest.mark.parametrize("sizes", [{"cardinality": 0}, {"base_width": -1}])
def test_widths_that_cannot_be(sizes: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="cardinality and base_width must be 1 or more"):
        ResNeXt(**sizes)


def test_a_strided_stem_takes_four_times_the_side() -> None:
    net = zoo.create("resnext-20", num_classes=5, stem=[7, 4])  # a card has lists
    assert net.stage_1(net.conv_1_3x3(torch.rand(2, 3, 64, 64))).shape == (2, 256, 16, 16)
    assert net(torch.rand(2, 3, 64, 64)).shape == (2, 5)
