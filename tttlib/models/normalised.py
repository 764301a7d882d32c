"""What the convolutional networks share: normalisation inside, and their initialisation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


class NormalisedNetwork(nn.Module):
    """A network that takes images in [0,1] and normalises them with its own `mean` and `std`.

    Both are buffers [1,channels,1,1] outside the state dict, 0 and 1 in a fresh model, which
    `zoo.load` sets.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, num_classes: int, channels: int = 3) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.classes: tuple[str, ...] = ()
        self.register_buffer("mean", torch.zeros(1, channels, 1, 1), persistent=False)
        self.register_buffer("std", torch.ones(1, channels, 1, 1), persistent=False)

    def normalize(self, images: Tensor) -> Tensor:
        """Return images [B,3,H,W] in [0,1] on the scale that the first layer expects."""
        return (images - self.mean) / self.std

    def initialise_convolutions(self) -> None:
        """Draw all convolution weights as He et al. (2015) do, scaled by the outputs."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def logits_of(answer: Any) -> Tensor | None:
    """Return what a network answers: a tensor, or one under the key or attribute `logits`."""
    logits = answer.get("logits") if isinstance(answer, Mapping) else answer
    logits = logits if isinstance(logits, Tensor) else getattr(answer, "logits", None)
    return logits if isinstance(logits, Tensor) else None


def blocks_of_depth(depth: int, width: int) -> int:
    """Return the number n of blocks in each group of a wide residual network of depth 6 n + 4.

    Raises
    ------
    ValueError
        For a depth that gives no whole number of blocks, or a width below 1.
    """
    if depth < 10 or (depth - 4) % 6:
        raise ValueError(f"depth must be 6 n + 4 with n >= 1 (10, 16, 22, 28 …), not {depth}")
    if width < 1:
        raise ValueError(f"width must be 1 or more, not {width}")
    return (depth - 4) // 6
