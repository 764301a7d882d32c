"""A network with two heads on a shared trunk: the class of an image, and by how much it was turned.

Paper: Sun, Wang, Liu, Miller, Efros, Hardt, "Test-Time Training with Self-Supervision for
Generalization under Distribution Shifts", ICML 2020, arXiv 1909.13231 (sections 2 and 3). Group
normalisation instead of batch normalisation, because test-time batches are copies of one image.
Here the trunk is a wide residual network of pre-activation blocks (`wide_resnet`); the paper's is a
ResNet-26.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tttlib.models.normalised import NormalisedNetwork, blocks_of_depth

TURNS = 4  # rotations by 0, 90, 180 and 270 degrees


class RotationNet(NormalisedNetwork):
    """Wide residual network with GroupNorm, a class head and a rotation head.

    Images enter in [0,1].

    Parameters
    ----------
    depth
        6 n + 4 for n blocks in each group.
    width
        Widening factor: groups of 16, 32 and 64 channels, times it.
    num_classes
        Number C of classes.
    stem_stride
        2 halves the image at once.
    split
        The branches part after this group, 1, 2 or 3. The rotation branch has its own copies of
        later groups; with 3 it has only a linear layer.
    norm_groups
        Channel groups of every GroupNorm.

    Raises
    ------
    ValueError
        For sizes that do not fit.
    """

    def __init__(
        self,
        *,
        depth: int = 10,
        width: int = 1,
        num_classes: int = 10,
        stem_stride: int = 1,
        split: int = 2,
        norm_groups: int = 8,
    ) -> None:
        super().__init__(num_classes)
        blocks = blocks_of_depth(depth, width)
        if split not in (1, 2, 3):
            raise ValueError(f"split must be 1, 2 or 3 (groups that are shared), not {split}")
        if norm_groups < 1 or 16 % norm_groups:
            raise ValueError(f"norm_groups must divide 16, not {norm_groups}")
        channels = (16, 16 * width, 32 * width, 64 * width)
        self.split = split
        self.conv1 = nn.Conv2d(3, 16, 3, stem_stride, padding=1, bias=False)
        for k in (1, 2, 3):
            self.add_module(f"block{k}", _group(channels, k, blocks, norm_groups))
        self.norm = nn.GroupNorm(norm_groups, channels[3])
        self.fc = nn.Linear(channels[3], num_classes)
        for k in range(split + 1, 4):
            self.add_module(f"rotation_block{k}", _group(channels, k, blocks, norm_groups))
        if split < 3:
            self.rotation_norm = nn.GroupNorm(norm_groups, channels[3])
        self.rotation_fc = nn.Linear(channels[3], TURNS)
        self.initialise_convolutions()
        nn.init.zeros_(self.fc.bias)
        nn.init.zeros_(self.rotation_fc.bias)

    def shared(self, images: Tensor) -> Tensor:
        """Return what both branches see, [B,16 width 2^(split-1),h,w], of images in [0,1]."""
        x = self.conv1(self.normalize(images))
        for k in range(1, self.split + 1):
            x = self.get_submodule(f"block{k}")(x)
        return x

    def encode(self, images: Tensor) -> Tensor:
        """Return pooled features [B,64 width] of the class branch for images [B,3,H,W]."""
        return self.class_features(self.shared(images))

    def classify(self, images: Tensor) -> Tensor:
        """Return class logits [B,C] of images [B,3,H,W] in [0,1]."""
        return self.fc(self.encode(images))

    forward = classify

    def rotation_logits(self, images: Tensor) -> Tensor:
        """Return logits [B,4] of the turn of images [B,3,H,W], in quarter circles (`rotated`)."""
        x = self.shared(images)
        if self.split == 3:
            return self.rotation_fc(self.class_features(x))
        for k in range(self.split + 1, 4):
            x = self.get_submodule(f"rotation_block{k}")(x)
        return self.rotation_fc(_pooled(x, self.rotation_norm))

    def class_features(self, x: Tensor) -> Tensor:
        """Return pooled features [B,64 width] of the class branch, given what `shared` returned."""
        for k in range(self.split + 1, 4):
            x = self.get_submodule(f"block{k}")(x)
        return _pooled(x, self.norm)


def rotated(images: Tensor, turns: Tensor) -> Tensor:
    """Turn square images [B,C,H,H], image i counter-clockwise by `turns[i]` quarter circles.

    No copy is made per turn: each of the four is a flip, a transposition or both.
    """
    turns = turns.to(images.device)[:, None, None, None]
    x = torch.where(turns >= 2, images.flip(2, 3), images)  # half a circle
    return torch.where(turns % 2 == 1, x.transpose(2, 3).flip(2), x)


def _pooled(x: Tensor, norm: nn.Module) -> Tensor:
    return F.relu(norm(x)).mean((2, 3))


def _group(channels: tuple[int, ...], k: int, blocks: int, norm_groups: int) -> nn.Sequential:
    """Build group k of 1, 2, 3: its first block widens and, from group 2 on, halves the image."""
    inside, outside = channels[k - 1], channels[k]
    first = _Block(inside, outside, 1 if k == 1 else 2, norm_groups)
    return nn.Sequential(
        first, *(_Block(outside, outside, 1, norm_groups) for _ in range(1, blocks))
    )


class _Block(nn.Module):
    """GN-ReLU-conv, twice; where the width changes, the shortcut starts after the first ReLU."""

    def __init__(self, inside: int, outside: int, stride: int, norm_groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(norm_groups, inside)
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(norm_groups, outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, padding=1, bias=False)
        if inside != outside:
            self.shortcut = nn.Conv2d(inside, outside, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        active = F.relu(self.norm1(x))
        shortcut = self.shortcut(active) if hasattr(self, "shortcut") else x
        return self.conv2(F.relu(self.norm2(self.conv1(active)))) + shortcut
