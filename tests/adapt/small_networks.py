"""Networks and images for the tests of adaptation."""

from __future__ import annotations

import copy
import functools

import numpy as np
import torch
from torch import Tensor, nn

from tttlib.models import MaskedAutoencoder, zoo


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


def transformer(head_type: str = "vit_head") -> MaskedAutoencoder:
    torch.manual_seed(0)
    return MaskedAutoencoder(
        img_size=16,
        patch_size=4,
        embed_dim=16,
        depth=2,
        num_heads=2,
        decoder_embed_dim=8,
        decoder_depth=1,
        decoder_num_heads=2,
        num_classes=5,
        head_type=head_type,
        classifier_embed_dim=8,
        classifier_depth=1,
        classifier_num_heads=2,
    ).eval()


def images(n: int = 6, *, seed: int = 0) -> Tensor:
    """[n,3,16,16] in [0,1]."""
    return torch.rand(n, 3, 16, 16, generator=torch.Generator().manual_seed(seed))


def flip(x: Tensor) -> Tensor:
    return x.flip(-1)


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


class Golden(nn.Module):
    """The network of palm_golden.json, float64, by formula."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        self.conv2 = nn.Conv2d(4, 6, 3, 2, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(6)
        self.fc = nn.Linear(6, 5)
        self.double()
        constants = {
            "conv1.weight": (0.3, 0.7, 0.30, 0),
            "bn1.weight": (0.1, 0.9, 0.20, 1),
            "bn1.bias": (0.5, 1.1, 0.10, 0),
            "conv2.weight": (1.3, 0.37, 0.25, 0),
            "bn2.weight": (0.4, 0.8, 0.30, 1),
            "bn2.bias": (0.9, 1.3, 0.20, 0),
            "fc.weight": (0.6, 1.7, 9.0, 0),
            "fc.bias": (0.8, 0.5, 0.5, 0),
        }
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                a, b, s, o = constants[name]
                i = np.arange(parameter.numel())
                values = torch.from_numpy(o + s * np.sin(a + b * i))
                parameter.copy_(values.view_as(parameter))
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn1(self.conv1(x)).relu()
        return self.fc(self.bn2(self.conv2(x)).relu().mean((2, 3)))


def golden_batch(t: int) -> Tensor:
    """Batch t [8,3,8,8] of palm_golden.json."""
    i = np.arange(8 * 192)
    x = 0.5 + 0.5 * np.sin(0.11 * (t + 1) * i + 0.0013 * i * (i // 192 + 1) + 0.7 * t)
    return torch.from_numpy(x).view(8, 3, 8, 8)
