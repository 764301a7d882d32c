"""ResNet-50: the source model of ImageNet-C, torchvision's network with its normalisation inside.

Paper: He et al., Deep Residual Learning for Image Recognition, CVPR 2016, arXiv 1512.03385
(table 1); torchvision moves the stride of a bottleneck from its first 1x1 to its 3x3 convolution
("ResNet v1.5"). Keys of the state dict are torchvision's (resnet50-0676ba61.pth loads strictly).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.models.resnet import Bottleneck, ResNet


class ResNet50(ResNet):
    """Four stages of `layers` bottlenecks and a linear classifier.

    Images enter in [0,1]; `mean` and `std` [1,3,1,1] are 0 and 1 in a fresh model.

    Parameters
    ----------
    num_classes
        Number C of classes.
    layers
        Bottlenecks of each stage; the paper's table 1 has (3,4,6,3).

    Raises
    ------
    ValueError
        Unless four positive counts are given.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, *, num_classes: int = 1000, layers: Sequence[int] = (3, 4, 6, 3)) -> None:
        if len(layers) != 4 or min(layers) < 1:
            raise ValueError(f"layers must be four counts of 1 or more, not {list(layers)}")
        super().__init__(Bottleneck, list(layers), num_classes=num_classes)
        self.num_classes = num_classes
        self.classes: tuple[str, ...] = ()
        self.register_buffer("mean", torch.zeros(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.ones(1, 3, 1, 1), persistent=False)

    def features(self, images: Tensor) -> Tensor:
        """Return pooled features [B,2048] of images [B,3,H,W] in [0,1]."""
        x = self.relu(self.bn1(self.conv1((images - self.mean) / self.std)))  # [B,64,H/2,W/2]
        x = self.maxpool(x)
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)  # last: [B,2048,H/32,W/32]
        return x.mean((2, 3))

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [B,C] of images [B,3,H,W] in [0,1]."""
        return self.fc(self.features(images))

    classify = forward
