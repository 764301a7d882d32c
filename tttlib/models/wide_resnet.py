"""Wide residual network: the source model of CIFAR-10-C, and small ones for two processor cores.

Paper: Zagoruyko and Komodakis, Wide Residual Networks, BMVC 2016, arXiv 1605.07146 (table 1; the
pre-activation block of figure 1). Keys of the state dict are those of RobustBench's `Standard`
(WRN-28-10), so that checkpoint loads strictly. No dropout.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from tttlib.models.normalised import NormalisedNetwork, blocks_of_depth


class WideResNet(NormalisedNetwork):
    """WRN-`depth`-`width`: three groups of (depth-4)/6 blocks, 16k, 32k and 64k channels wide.

    Images enter in [0,1]. The released network takes raw pixels, so its `mean` and `std` are 0
    and 1.

    Parameters
    ----------
    depth
        6 n + 4 for n blocks in each group.
    width
        The k of the paper.
    num_classes
        Number C of classes.
    stem_stride
        2 halves the image at once (64-pixel images at a quarter of the cost).

    Raises
    ------
    ValueError
        For a depth that gives no whole number of blocks.
    """

    def __init__(
        self, *, depth: int = 28, width: int = 10, num_classes: int = 10, stem_stride: int = 1
    ) -> None:
        super().__init__(num_classes)
        blocks = blocks_of_depth(depth, width)
        channels = (16, 16 * width, 32 * width, 64 * width)
        self.conv1 = nn.Conv2d(3, 16, 3, stem_stride, padding=1, bias=False)
        self.block1 = _Group(channels[0], channels[1], blocks, stride=1)
        self.block2 = _Group(channels[1], channels[2], blocks, stride=2)
        self.block3 = _Group(channels[2], channels[3], blocks, stride=2)
        self.bn1 = nn.BatchNorm2d(channels[3])
        self.fc = nn.Linear(channels[3], num_classes)
        self.initialise_convolutions()
        nn.init.zeros_(self.fc.bias)

    def features(self, images: Tensor) -> Tensor:
        """Return pooled features [B,64 width] of images [B,3,H,W] in [0,1]."""
        x = self.conv1(self.normalize(images))  # [B,16,H,W]
        x = self.block3(self.block2(self.block1(x)))  # [B,64k,H/4,W/4]
        return F.relu(self.bn1(x)).mean((2, 3))

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [B,C] of images [B,3,H,W] in [0,1]."""
        return self.fc(self.features(images))

    classify = forward


class _Group(nn.Module):
    def __init__(self, inside: int, outside: int, blocks: int, *, stride: int) -> None:
        super().__init__()
        first = _Block(inside, outside, stride)
        self.layer = nn.Sequential(first, *(_Block(outside, outside, 1) for _ in range(1, blocks)))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


class _Block(nn.Module):
    """BN-ReLU-conv, twice; where the width changes, the shortcut starts after the first ReLU."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inside)
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, padding=1, bias=False)
        if inside != outside:
            self.convShortcut = nn.Conv2d(inside, outside, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        active = F.relu(self.bn1(x))
        shortcut = self.convShortcut(active) if hasattr(self, "convShortcut") else x
        return self.conv2(F.relu(self.bn2(self.conv1(active)))) + shortcut
