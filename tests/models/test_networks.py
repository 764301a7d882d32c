"""The convolutional networks of the papers at full size: they are built, run and count right."""

from __future__ import annotations

import pytest
import torch

from tttlib.models import zoo


def wide(depth: int, k: int, classes: int) -> int:
    """Parameters of WRN-depth-k from its definition: convolutions, batch norms, linear layer."""
    total, inside = 3 * 16 * 9, 16
    for outside in (16 * k, 32 * k, 64 * k):
        for _ in range((depth - 4) // 6):
            total += 2 * inside + inside * outside * 9 + 2 * outside + outside * outside * 9
            total += inside * outside * (inside != outside)  # the shortcut
            inside = outside
    return total + 2 * inside + (inside + 1) * classes


def aggregated(depth: int, cardinality: int, width: int, classes: int) -> int:
    """Parameters of ResNeXt-depth cardinality x width d from its definition."""
    total, inside = 3 * 64 * 9 + 2 * 64, 64
    for planes in (64, 128, 256):
        group, outside = width * planes // 64, 4 * planes
        inner = cardinality * group
        for i in range((depth - 2) // 9):
            total += inside * inner + inner * group * 9 + inner * outside
            total += 2 * (2 * inner + outside)
            total += (inside + 2) * outside * (i == 0)  # the shortcut and its batch norm
            inside = outside
    return total + (inside + 1) * classes


@pytest.mark.parametrize(
    "name, side, classes, parameters",
    [
        ("wrn-28-10", 32, 10, 36_479_194),  # 36.5 M in table 5 of the paper
        ("resnext-29", 32, 100, 6_900_132),  # 6.90 M, 4x32d
        ("resnet-50", 224, 1000, 25_557_032),  # torchvision's card
    ],
)
def test_full_size(name: str, side: int, classes: int, parameters: int) -> None:
    torch.manual_seed(0)
    net = zoo.create(name).eval()
    assert sum(p.numel() for p in net.parameters()) == parameters
    images = torch.rand(2, 3, side, side)
    with torch.inference_mode():
        logits = net.classify(images)
        flipped = net.classify(images.flip(0))
    assert logits.shape == (2, classes) and logits.isfinite().all()
    assert not torch.allclose(logits[0], logits[1], rtol=1e-4)  # they depend on the image
    torch.testing.assert_close(flipped.flip(0), logits, rtol=1e-4, atol=1e-4)  # on it alone


def test_the_counts_follow_from_the_definitions() -> None:
    assert wide(28, 10, 10) == 36_479_194
    assert aggregated(29, 4, 32, 100) == 6_900_132
