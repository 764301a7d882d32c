"""Networks, images and views for the tests of adaptation: tiny, so that plain loops are quick."""

from __future__ import annotations

import copy
import functools
from typing import Any

import numpy as np
import torch
from tiny_mae import tiny_mae
from torch import Tensor, nn

from tttlib import adapt
from tttlib.models import MaskedAutoencoder, RotationNet, zoo
from tttlib.models.wide_resnet import WideResNet

CLASSES = 4  # of the networks in float64; the others have 5


def wide_resnet() -> nn.Module:
    """A WRN-10-1 with random weights and running statistics that mean something."""
    return copy.deepcopy(_wide_resnet())


@functools.cache
def _wide_resnet() -> nn.Module:
    torch.manual_seed(0)
    net = zoo.create("wrn-10-1", num_classes=5)
    with torch.no_grad():
        for _ in range(3):
            net.train()(images(16, seed=9))
    return net.eval()


def autoencoder(
    seed: int = 0, head_type: str = "vit_head", size: int = 16, **changes: Any
) -> MaskedAutoencoder:
    """Sixteen patches, two blocks."""
    shape = {"img_size": size, "patch_size": size // 4, "embed_dim": size, "num_classes": 5}
    head = {"head_type": head_type, "classifier_embed_dim": 8, "classifier_num_heads": 2}
    return tiny_mae(seed, torch.float32, **{**shape, **head, **changes})


def rotation_net(seed: int = 0) -> RotationNet:
    """Ten layers, random weights."""
    torch.manual_seed(seed)
    return RotationNet(depth=10, width=1, num_classes=5).eval()


def images(n: int = 6, *, seed: int = 0, size: int = 16) -> Tensor:
    """[n,3,size,size] in [0,1]."""
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(seed))


# -- in float64, for comparison with plain loops ---------------------------------------------------


class Convolutional(nn.Module):
    """conv, BN, conv, BN, mean, linear."""

    def __init__(self, classes: int = CLASSES, bias: bool = True) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        self.conv2 = nn.Conv2d(4, 6, 3, stride=2, padding=1, bias=bias)
        self.bn2 = nn.BatchNorm2d(6)
        self.fc = nn.Linear(6, classes)

    def features(self, images: Tensor) -> Tensor:
        x = torch.relu(self.bn1(self.conv1(images)))
        return torch.relu(self.bn2(self.conv2(x))).mean((2, 3))

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.features(images))


def convolutional(seed: int = 0) -> Convolutional:
    return randomised(Convolutional(), seed)


def thin_resnet(seed: int = 0) -> WideResNet:
    return randomised(WideResNet(depth=10, width=1, num_classes=CLASSES), seed)


def tiny_autoencoder(seed: int = 0, head_type: str = "vit_head") -> MaskedAutoencoder:
    return autoencoder(seed, head_type, size=8, num_classes=CLASSES).double()


def randomised(model: Any, seed: int) -> Any:
    """Random scales, shifts and statistics, too."""
    random = torch.Generator().manual_seed(seed)
    model = model.double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=random, dtype=torch.float64)
            parameter.copy_(noise * 0.5 if parameter.ndim > 1 else 0.8 + 0.3 * noise)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.uniform_(-0.3, 0.3, generator=random)
                module.running_var.uniform_(0.5, 1.5, generator=random)
    return model


def exact_images(number: int, seed: int = 0, size: int = 8) -> Tensor:
    random = torch.Generator().manual_seed(1000 + seed)
    return torch.rand(number, 3, size, size, generator=random, dtype=torch.float64)


def batch_statistics(model: Any) -> Any:
    """A copy as the released codes make it: BatchNorm layers forget their running statistics."""
    model = copy.deepcopy(model)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.track_running_stats = False
            module.running_mean = module.running_var = None
    return model


# -- views, and what an adapter holds --------------------------------------------------------------


def flip(x: Tensor) -> Tensor:
    return x.flip(-1)


class Different:
    """Views that differ from call to call."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, x: Tensor) -> Tensor:
        self.calls += 1
        return (x.roll(self.calls, -1) * (1 - 0.1 * (self.calls % 5))).clamp(0, 1)


def parameters(adapter: adapt.Adapter) -> dict[str, Tensor]:
    return {n: p.detach().clone() for n, p in adapter.model.named_parameters()}


def weights(adapter: adapt.Adapter) -> dict[str, Tensor]:
    """Parameters and buffers of all networks."""
    return {
        f"{part}/{name}": value.detach().clone()
        for part, net in adapter.networks.items()
        for name, value in net.state_dict().items()
    }


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# -- of recorded outputs ---------------------------------------------------------------------------


class Recorded(nn.Module):
    """The network of ctta_reference.npz: three blocks, w = 8 channels, 10 classes."""

    def __init__(self, w: int = 8) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, w, 3, padding=1, bias=False)
        self.block1 = self._block(w, w, bias=False)
        self.block2 = self._block(w, 2 * w, stride=2, bias=False)
        self.block3 = self._block(2 * w, 2 * w)
        self.bn = nn.BatchNorm2d(2 * w)
        self.fc = nn.Linear(2 * w, 10)

    @staticmethod
    def _block(a: int, b: int, stride: int = 1, bias: bool = True) -> nn.Sequential:
        convolution = nn.Conv2d(a, b, 3, stride, padding=1, bias=bias)
        return nn.Sequential(nn.BatchNorm2d(a), nn.ReLU(), convolution)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block3(self.block2(self.block1(self.conv1(x))))
        return self.fc(self.bn(x).relu().mean((2, 3)))


class Golden(Convolutional):
    """The network of palm_golden.json, float64, by formula."""

    def __init__(self) -> None:
        super().__init__(classes=5, bias=False)
        self.double()
        constants = [  # of conv1, bn1, conv2, bn2 and fc
            *[(0.3, 0.7, 0.30, 0), (0.1, 0.9, 0.20, 1), (0.5, 1.1, 0.10, 0), (1.3, 0.37, 0.25, 0)],
            *[(0.4, 0.8, 0.30, 1), (0.9, 1.3, 0.20, 0), (0.6, 1.7, 9.0, 0), (0.8, 0.5, 0.5, 0)],
        ]
        with torch.no_grad():
            for parameter, (a, b, s, o) in zip(self.parameters(), constants, strict=True):
                i = np.arange(parameter.numel())
                values = torch.from_numpy(o + s * np.sin(a + b * i))
                parameter.copy_(values.view_as(parameter))
        self.eval()


def golden_batch(t: int) -> Tensor:
    """Batch t [8,3,8,8] of palm_golden.json."""
    i = np.arange(8 * 192)
    x = 0.5 + 0.5 * np.sin(0.11 * (t + 1) * i + 0.0013 * i * (i // 192 + 1) + 0.7 * t)
    return torch.from_numpy(x).view(8, 3, 8, 8)
