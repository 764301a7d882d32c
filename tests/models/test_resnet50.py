"""ResNet-50: torchvision's keys, the sizes of the paper, the normalisation inside."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch.nn import functional as F

from tttlib.models import zoo
from tttlib.models.resnet50 import ResNet50


def test_keys_and_sizes_are_torchvisions() -> None:
    with torch.device("meta"):
        net, theirs = zoo.create("resnet-50"), torchvision.models.resnet50()
    assert list(net.state_dict()) == list(theirs.state_dict())
    assert sum(p.numel() for p in net.parameters()) == 25_557_032
    affine = [m for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert 2 * len(affine) == 106 and 2 * sum(m.num_features for m in affine) == 53_120
    assert not {"mean", "std"} & net.state_dict().keys()


def test_forward_is_the_paper_written_out() -> None:
    torch.manual_seed(0)
    net = ResNet50(num_classes=5, layers=(2, 1, 1, 1)).double().eval()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 2)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
    net.mean.copy_(torch.tensor([0.4, 0.5, 0.6]).view(1, 3, 1, 1))
    net.std.copy_(torch.tensor([0.2, 0.3, 0.4]).view(1, 3, 1, 1))
    w = net.state_dict()

    def norm(x: torch.Tensor, at: str) -> torch.Tensor:
        mean, var, weight, bias = (
            w[f"{at}.{k}"].view(-1, 1, 1) for k in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (var + 1e-5).sqrt() * weight + bias

    images = torch.rand(2, 3, 64, 64, dtype=torch.float64)
    x = torch.stack([(images[:, c] - net.mean[0, c]) / net.std[0, c] for c in range(3)], 1)
    x = F.relu(norm(F.conv2d(x, w["conv1.weight"], stride=2, padding=3), "bn1"))
    x = F.max_pool2d(x, 3, 2, 1)
    for stage, blocks in ((1, 2), (2, 1), (3, 1), (4, 1)):
        for i in range(blocks):
            at, stride = f"layer{stage}.{i}", 2 if stage > 1 and i == 0 else 1
            y = F.relu(norm(F.conv2d(x, w[f"{at}.conv1.weight"]), f"{at}.bn1"))
            y = F.conv2d(y, w[f"{at}.conv2.weight"], stride=stride, padding=1)
            y = norm(F.conv2d(F.relu(norm(y, f"{at}.bn2")), w[f"{at}.conv3.weight"]), f"{at}.bn3")
            if i == 0:
                x = F.conv2d(x, w[f"{at}.downsample.0.weight"], stride=stride)
                x = norm(x, f"{at}.downsample.1")
            x = F.relu(x + y)
    pooled = x.mean((2, 3))
    torch.testing.assert_close(net.features(images), pooled)
    torch.testing.assert_close(net.classify(images), pooled @ w["fc.weight"].T + w["fc.bias"])


def test_it_is_torchvisions_function() -> None:
    torch.manual_seed(0)
    net = ResNet50(num_classes=5, layers=(1, 1, 1, 1)).eval()
    theirs = torchvision.models.ResNet(
        torchvision.models.resnet.Bottleneck, [1, 1, 1, 1], num_classes=5
    ).eval()
    theirs.load_state_dict(net.state_dict())
    images = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(net(images), theirs(images))


@pytest.mark.parametrize("layers", [(3, 4, 6), (3, 4, 0, 3)])
def test_layers_that_cannot_be(layers: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"layers must be four counts of 1 or more, not \[3, 4"):
        ResNet50(layers=layers)
