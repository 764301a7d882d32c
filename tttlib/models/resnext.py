"""Aggregated residual network for 32-pixel images: the source model of CIFAR-100-C.

Paper: Xie et al., Aggregated Residual Transformations for Deep Neural Networks, CVPR 2017,
arXiv 1611.05431 (figure 3c, section 5.2). Keys of the state dict are those of AugMix's
`ResNeXt-29 4x32d` (Hendrycks et al., ICLR 2020), so that checkpoint loads strictly.
Known difference: none in the arithmetic; RobustBench's buffers `mu` and `sigma` are `mean` and
`std` here and stay out of the state dict, as they are missing in the file of AugMix itself.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from tttlib.models.normalised import NormalisedNetwork

EXPANSION = 4  # output channels of a block per plane
STEM = 64


class ResNeXt(NormalisedNetwork):
    """ResNeXt-`depth` `cardinality`x`base_width`d: three stages of (depth-2)/9 bottlenecks.

    Images enter in [0,1]. AugMix trained with a `mean` and `std` of 0.5.

    Parameters
    ----------
    depth
        9 n + 2 for n bottlenecks in each stage.
    cardinality
        Groups of the 3x3 convolution.
    base_width
        Channels of one group in the first stage, doubled in each later one.
    num_classes
        Number C of classes.
    stem
        Kernel and stride of the first convolution; (7, 4) gives 64-pixel images a sixteenth of the
        cost.

    Raises
    ------
    ValueError
        For a depth that gives no whole number of blocks.
    """

    def __init__(
        self,
        *,
        depth: int = 29,
        cardinality: int = 4,
        base_width: int = 32,
        num_classes: int = 100,
        stem: tuple[int, int] = (3, 1),
    ) -> None:
        super().__init__(num_classes)
        if depth < 11 or (depth - 2) % 9:
            raise ValueError(f"depth must be 9 n + 2 with n >= 1 (11, 20, 29 …), not {depth}")
        if cardinality < 1 or base_width < 1:
            raise ValueError(
                f"cardinality and base_width must be 1 or more, not {cardinality} and {base_width}"
            )
        kernel, stride = stem
        blocks = (depth - 2) // 9
        self.conv_1_3x3 = nn.Conv2d(3, STEM, kernel, stride, padding=kernel // 2, bias=False)
        self.bn_1 = nn.BatchNorm2d(STEM)
        outside, stages = STEM, []
        for stage, planes in enumerate((64, 128, 256), 1):
            inner = cardinality * (planes * base_width // 64)
            inside, outside = outside, planes * EXPANSION
            first = _Bottleneck(inside, inner, outside, cardinality, min(stage, 2))
            rest = (_Bottleneck(outside, inner, outside, cardinality, 1) for _ in range(1, blocks))
            stages.append(nn.Sequential(first, *rest))
        self.stage_1, self.stage_2, self.stage_3 = stages
        self.classifier = nn.Linear(outside, num_classes)
        self.initialise_convolutions()
        nn.init.kaiming_normal_(self.classifier.weight)
        nn.init.zeros_(self.classifier.bias)

    def features(self, images: Tensor) -> Tensor:
        """Return pooled features [B,1024] of images [B,3,H,W] in [0,1]."""
        x = F.relu(self.bn_1(self.conv_1_3x3(self.normalize(images))))  # [B,64,H,W]
        for stage in (self.stage_1, self.stage_2, self.stage_3):
            x = stage(x)  # last: [B,1024,H/4,W/4]
        return x.mean((2, 3))

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [B,C] of images [B,3,H,W] in [0,1]."""
        return self.classifier(self.features(images))

    classify = forward


class _Bottleneck(nn.Module):
    """1x1, grouped 3x3 with the stride, 1x1; the last ReLU comes after the addition."""

    def __init__(self, inside: int, inner: int, outside: int, groups: int, stride: int) -> None:
        super().__init__()
        self.conv_reduce = nn.Conv2d(inside, inner, 1, bias=False)
        self.bn_reduce = nn.BatchNorm2d(inner)
        self.conv_conv = nn.Conv2d(inner, inner, 3, stride, padding=1, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(inner)
        self.conv_expand = nn.Conv2d(inner, outside, 1, bias=False)
        self.bn_expand = nn.BatchNorm2d(outside)
        if inside != outside or stride > 1:
            self.downsample = nn.Sequential(
                nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside)
            )

    def forward(self, x: Tensor) -> Tensor:
        shortcut = self.downsample(x) if hasattr(self, "downsample") else x
        y = F.relu(self.bn_reduce(self.conv_reduce(x)))
        y = F.relu(self.bn(self.conv_conv(y)))
        return F.relu(self.bn_expand(self.conv_expand(y)) + shortcut)
