"""Wide residual networks, ResNeXt, ResNet-50, the two-headed network: keys, sizes, arithmetic."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from tttlib.models import ResNeXt, RotationNet, WideResNet, zoo
from tttlib.models.resnet50 import ResNet50
from tttlib.models.rotation_net import rotated


def images(n: int = 3, side: int = 16) -> Tensor:
    return torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(1))


class ByHand:
    """A network in float64 whose BatchNorm layers do something, and its layers by their keys."""

    def __init__(self, net: nn.Module) -> None:
        torch.manual_seed(0)
        self.net = net.double().eval()
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.uniform_(-0.2, 0.2)
                module.running_var.uniform_(0.5, 2)
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.uniform_(module.bias, -0.3, 0.3)
        self.w = net.state_dict()

    def norm(self, x: Tensor, at: str) -> Tensor:
        names = ("running_mean", "running_var", "weight", "bias")
        mean, var, weight, bias = (self.w[f"{at}.{name}"].view(-1, 1, 1) for name in names)
        return (x - mean) / (var + 1e-5).sqrt() * weight + bias

    def conv(self, x: Tensor, at: str, **how: int) -> Tensor:
        return F.conv2d(x, self.w[f"{at}.weight"], **how)


# -- released keys and sizes -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "parameters", "layers", "channels"),
    [
        ("wrn-28-10", 36_479_194, 50, 17_952),  # 36.5 M in table 5 of the paper
        ("resnext-29", 6_900_132, 62, 25_216),  # 6.90 M, 4x32d
        ("resnet-50", 25_557_032, 106, 53_120),  # torchvision's card
    ],
)
def test_sizes_of_the_released_networks(
    name: str, parameters: int, layers: int, channels: int
) -> None:
    with torch.device("meta"):
        net = zoo.create(name)
    assert sum(p.numel() for p in net.parameters()) == parameters
    affine = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    assert 2 * len(affine) == layers and 2 * sum(m.num_features for m in affine) == channels


def test_released_keys() -> None:
    with torch.device("meta"):
        wide, aggregated, r50 = map(zoo.create, ("wrn-28-10", "resnext-29", "resnet-50"))
        theirs = torchvision.models.resnet50()
    assert list(r50.state_dict()) == list(theirs.state_dict())
    keys = wide.state_dict()
    assert len(keys) == 155 and keys["fc.weight"].shape == (10, 640)
    shortcuts = [key for key in keys if "convShortcut" in key]
    assert shortcuts == [f"block{k}.layer.0.convShortcut.weight" for k in (1, 2, 3)]

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
    keys = aggregated.state_dict()
    assert keys.keys() == expected and keys["classifier.weight"].shape == (100, 1024)
    inner = [keys[f"stage_{s}.0.conv_conv.weight"].shape for s in (1, 2, 3)]
    assert inner == [(128, 32, 3, 3), (256, 64, 3, 3), (512, 128, 3, 3)]


# -- the papers written out ------------------------------------------------------------------------


def test_wide_resnet_is_the_paper_written_out() -> None:
    by = ByHand(WideResNet(depth=16, width=2, num_classes=7))
    x = by.conv(pictures := images(side=32).double(), "conv1", padding=1)
    for group in (1, 2, 3):
        for layer in (0, 1):
            at, stride = f"block{group}.layer.{layer}", 2 if group > 1 and layer == 0 else 1
            a = F.relu(by.norm(x, f"{at}.bn1"))
            y = by.conv(a, f"{at}.conv1", stride=stride, padding=1)
            y = by.conv(F.relu(by.norm(y, f"{at}.bn2")), f"{at}.conv2", padding=1)
            if layer == 0:
                x = by.conv(a, f"{at}.convShortcut", stride=stride)
            x = x + y
    pooled = F.avg_pool2d(F.relu(by.norm(x, "bn1")), 8).flatten(1)
    expected = pooled @ by.w["fc.weight"].T + by.w["fc.bias"]
    torch.testing.assert_close(by.net(pictures), expected)


def test_resnext_is_the_paper_written_out() -> None:
    """Groups as separate convolutions on slices, an 8x8 average pool."""
    cardinality, base = 3, 20
    by = ByHand(ResNeXt(depth=20, cardinality=cardinality, base_width=base, num_classes=7))

    def grouped(x: Tensor, at: str, stride: int) -> Tensor:
        weight = by.w[f"{at}.weight"]
        pairs = zip(x.chunk(cardinality, 1), weight.chunk(cardinality, 0), strict=True)
        return torch.cat([F.conv2d(a, b, stride=stride, padding=1) for a, b in pairs], 1)

    pictures = images(2, 32).double()
    x = F.relu(by.norm(by.conv(pictures, "conv_1_3x3", padding=1), "bn_1"))
    for stage, planes in ((1, 64), (2, 128), (3, 256)):
        for layer in (0, 1):
            at, stride = f"stage_{stage}.{layer}", 2 if stage > 1 and layer == 0 else 1
            y = F.relu(by.norm(by.conv(x, f"{at}.conv_reduce"), f"{at}.bn_reduce"))
            assert y.shape[1] == cardinality * (planes * base // 64)
            y = F.relu(by.norm(grouped(y, f"{at}.conv_conv", stride), f"{at}.bn"))
            y = by.norm(by.conv(y, f"{at}.conv_expand"), f"{at}.bn_expand")
            if layer == 0:
                x = by.conv(x, f"{at}.downsample.0", stride=stride)
                x = by.norm(x, f"{at}.downsample.1")
            x = F.relu(x + y)
    pooled = F.avg_pool2d(x, 8).flatten(1)
    torch.testing.assert_close(by.net.features(pictures), pooled)
    expected = pooled @ by.w["classifier.weight"].T + by.w["classifier.bias"]
    torch.testing.assert_close(by.net(pictures), expected)


def test_resnet50_is_torchvisions_function() -> None:
    by, layers = ByHand(ResNet50(num_classes=5, layers=(2, 1, 1, 1))), [2, 1, 1, 1]
    block = torchvision.models.resnet.Bottleneck
    theirs = torchvision.models.ResNet(block, layers, num_classes=5).double().eval()
    theirs.load_state_dict(by.w)
    x = images(2, 64).double()
    torch.testing.assert_close(by.net(x), theirs(x))


# -- what all of them do ---------------------------------------------------------------------------

SMALL: dict[str, Any] = {
    "wide": lambda: WideResNet(depth=10, width=1, num_classes=5),
    "aggregated": lambda: ResNeXt(depth=11, cardinality=2, base_width=8, num_classes=5),
    "resnet-50": lambda: ResNet50(layers=(1, 1, 1, 1), num_classes=5),
    "two heads": lambda: RotationNet(num_classes=5),
}


@pytest.mark.parametrize("kind", SMALL)
def test_the_normalisation_is_inside(kind: str) -> None:
    net, x = SMALL[kind]().eval(), images(2, 32)
    raw = net((x - 0.4) / 0.2)
    net.mean.fill_(0.4), net.std.fill_(0.2)
    torch.testing.assert_close(net(x), raw, atol=1e-4, rtol=1e-4)
    assert torch.equal(net.classify(x), net(x)) and not {"mean", "std"} & net.state_dict().keys()


def test_a_strided_stem_takes_more_pixels() -> None:
    x = images(2, 64)
    assert WideResNet(depth=10, width=1, num_classes=5, stem_stride=2)(x).shape == (2, 5)
    net = zoo.create("resnext-20", num_classes=5, stem=[7, 4])  # a card has lists
    assert net.stage_1(net.conv_1_3x3(x)).shape == (2, 256, 16, 16) and net(x).shape == (2, 5)


@pytest.mark.parametrize(
    ("make", "sizes", "message"),
    [
        *((WideResNet, {"depth": d}, f"depth must be 6 n . 4 .*not {d}") for d in (4, 9, 27)),
        *((ResNeXt, {"depth": d}, rf"depth must be 9 n \+ 2 .*not {d}") for d in (2, 9, 28)),
        (ResNeXt, {"cardinality": 0}, "cardinality and base_width must be 1 or more"),
        (ResNeXt, {"base_width": -1}, "cardinality and base_width must be 1 or more"),
        (ResNet50, {"layers": (3, 4, 6)}, r"four counts of 1 or more, not \[3, 4, 6\]"),
        (ResNet50, {"layers": (3, 4, 0, 3)}, r"four counts of 1 or more, not \[3, 4, 0, 3\]"),
        (RotationNet, {"depth": 12}, "depth must be .*not 12"),
        (RotationNet, {"width": 0}, "width must be 1 or more, not 0"),
        (RotationNet, {"split": 4}, "split must be 1, 2 or 3 .*not 4"),
        (RotationNet, {"norm_groups": 3}, "norm_groups must divide 16, not 3"),
    ],
)
def test_sizes_that_cannot_be(make: Any, sizes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**sizes)


# -- two heads on a shared trunk -------------------------------------------------------------------


def net(**sizes: int) -> RotationNet:
    torch.manual_seed(0)
    return RotationNet(**{"num_classes": 5, **sizes}).eval()


def test_rotated_is_rot90_of_each_image() -> None:
    x, turns = images(5, 6), torch.tensor([0, 1, 2, 3, 1])
    expected = torch.stack([torch.rot90(a, int(k), (1, 2)) for a, k in zip(x, turns, strict=True)])
    assert torch.equal(rotated(x, turns), expected)


@pytest.mark.parametrize("sizes", [{"split": 1}, {"split": 2, "width": 2}, {"depth": 16}])
@pytest.mark.parametrize("stem_stride", [1, 2])
def test_shapes(sizes: dict[str, int], stem_stride: int) -> None:
    model, x = net(stem_stride=stem_stride, **sizes), images()
    width, side = sizes.get("width", 1), 16 // stem_stride // 2 ** (model.split - 1)
    assert model.shared(x).shape == (3, 16 * width * 2 ** (model.split - 1), side, side)
    assert model.encode(x).shape == (3, 64 * width)
    assert model.classify(x).shape == (3, 5) and model.rotation_logits(x).shape == (3, 4)


@pytest.mark.parametrize("split", [1, 2, 3])
def test_which_parameters_each_branch_uses(split: int) -> None:
    model = net(split=split)

    def used(value: Tensor) -> set[str]:
        names, parameters = zip(*model.named_parameters(), strict=True)
        found = torch.autograd.grad(value.sum(), parameters, allow_unused=True)
        return {n for n, g in zip(names, found, strict=True) if g is not None}

    by_class, by_turn = used(model.classify(images())), used(model.rotation_logits(images()))
    assert by_class | by_turn == {name for name, _ in model.named_parameters()}
    groups = {f"block{k}" for k in range(1, split + 1)} | {"conv1"}
    shared = {name.partition(".")[0] for name in by_class & by_turn}
    assert shared == groups | ({"norm"} if split == 3 else set())
    assert all(name.startswith("rotation_") for name in by_turn - by_class)


def test_an_image_is_predicted_alone() -> None:
    """Group norm: nothing of the other images of a batch, in training mode either."""
    model = net().train()
    torch.testing.assert_close(model(images())[:1], model(images()[:1]), atol=1e-6, rtol=0)
