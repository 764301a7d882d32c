"""Costs count passes of the network: one forward, and two more for each backward."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tttlib import evaluate


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(4, 5)).eval()


def test_forward_equivalents() -> None:
    net, images = network(), torch.rand(9, 3, 8, 8)
    forward = 2 * 36 * 4 * 27 + 2 * 4 * 5  # of an image: the convolution and the linear layer
    assert evaluate.forward_equivalents(net, images, "source") == 1
    assert evaluate.forward_equivalents(net, images, "bn1") == 1
    # TENT's gradient reaches the norm through the linear layer, and no weight before it.
    tent = evaluate.forward_equivalents(net, images, "tent")
    assert tent == pytest.approx((forward + 2 * 4 * 5) / forward, rel=1e-6)
    views = evaluate.forward_equivalents(net, images, "cotta", n_augmentations=4)
    assert views > 5
    with pytest.raises(ValueError, match="at least 3 images, not 2"):
        evaluate.forward_equivalents(net, images[:2], "tent")
