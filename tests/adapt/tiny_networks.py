"""Tiny networks and images for the tests of adapters, in float64."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from tttlib.models import MaskedAutoencoder
from tttlib.models.wide_resnet import WideResNet

CLASSES = 4


class Convolutional(nn.Module):
    """conv, BN, conv, BN, mean, linear."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        self.conv2 = nn.Conv2d(4, 6, 3, stride=2, padding=1)
        self.bn2 = nn.BatchNorm2d(6)
        self.fc = nn.Linear(6, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        x = torch.relu(self.bn1(self.conv1(images)))
        return self.fc(torch.relu(self.bn2(self.conv2(x))).mean((2, 3)))


def convolutional(seed: int = 0) -> nn.Module:
    return randomised(Convolutional(), seed)


def wide_resnet(seed: int = 0) -> nn.Module:
    return randomised(WideResNet(depth=10, width=1, num_classes=CLASSES), seed)


def autoencoder(seed: int = 0, head_type: str = "vit_head") -> MaskedAutoencoder:
    torch.manual_seed(seed)
    model = MaskedAutoencoder(
        img_size=8,
        patch_size=2,
        embed_dim=8,
        depth=2,
        num_heads=2,
        decoder_embed_dim=8,
        decoder_depth=1,
        decoder_num_heads=2,
        num_classes=CLASSES,
        head_type=head_type,  # type: ignore[arg-type]
        classifier_embed_dim=8,
        classifier_depth=1,
        classifier_num_heads=2,
    )
    return model.double().eval()


def randomised(model: nn.Module, seed: int) -> nn.Module:
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


def images(number: int, seed: int = 0, size: int = 8) -> Tensor:
    random = torch.Generator().manual_seed(1000 + seed)
    return torch.rand(number, 3, size, size, generator=random, dtype=torch.float64)


def batch_statistics(model: nn.Module) -> nn.Module:
    """A copy as the released codes make it: BatchNorm layers forget their running statistics."""
    model = copy.deepcopy(model)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.track_running_stats = False
            module.running_mean = module.running_var = None
    return model


def darker(x: Tensor) -> Tensor:
    """A deterministic augmentation."""
    return x.flip(-1) * 0.9 + 0.02


class Different:
    """Views that differ from call to call."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, x: Tensor) -> Tensor:
        self.calls += 1
        return (x.roll(self.calls, -1) * (1 - 0.1 * (self.calls % 5))).clamp(0, 1)
