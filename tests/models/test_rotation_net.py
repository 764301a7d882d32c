"""The two-headed network: what is shared, what is not, and which way images turn."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tttlib.models import RotationNet, zoo
from tttlib.models.rotation_net import rotated


def net(**sizes: int) -> RotationNet:
    torch.manual_seed(0)
    return RotationNet(**{"num_classes": 5, **sizes}).eval()


def images(n: int = 3, side: int = 16) -> Tensor:
    return torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(1))


def test_rotated_is_rot90_of_each_image() -> None:
    x, turns = images(5, 6), torch.tensor([0, 1, 2, 3, 1])
    expected = torch.stack([torch.rot90(a, int(k), (1, 2)) for a, k in zip(x, turns, strict=True)])
    assert torch.equal(rotated(x, turns), expected)


@pytest.mark.parametrize("sizes", [{"split": 1}, {"split": 2, "width": 2}, {"depth": 16}])
@pytest.mark.parametrize("stem_stride", [1, 2])
def test_shapes(sizes: dict[str, int], stem_stride: int) -> None:
    model, x = net(stem_stride=stem_stride, **sizes), images()
    width = sizes.get("width", 1)
    side = 16 // stem_stride // 2 ** (model.split - 1)
    assert model.shared(x).shape == (3, 16 * width * 2 ** (model.split - 1), side, side)
    assert model.encode(x).shape == (3, 64 * width)
    assert model.classify(x).shape == (3, 5) and model.rotation_logits(x).shape == (3, 4)
    assert torch.equal(model(x), model.classify(x))


@pytest.mark.parametrize("split", [1, 2, 3])
def test_which_parameters_each_branch_uses(split: int) -> None:
    model = net(split=split)

    def used(value: Tensor) -> set[str]:
        names, parameters = zip(*model.named_parameters(), strict=True)
        found = torch.autograd.grad(value.sum(), parameters, allow_unused=True)
        return {n for n, g in zip(names, found, strict=True) if g is not None}

    by_class, by_turn = used(model.classify(images())), used(model.rotation_logits(images()))
    everything = {name for name, _ in model.named_parameters()}
    assert by_class | by_turn == everything
    groups = {f"block{k}" for k in range(1, split + 1)} | {"conv1"}
    shared = {name.partition(".")[0] for name in by_class & by_turn}
    assert shared == groups | ({"norm"} if split == 3 else set())
    assert all(name.startswith("rotation_") for name in by_turn - by_class)


def test_an_image_is_predicted_alone() -> None:
    """Group norm: nothing of the other images of a batch, in training mode either."""
    model = net().train()
    torch.testing.assert_close(model(images())[:1], model(images()[:1]), atol=1e-6, rtol=0)


def test_normalisation_is_inside() -> None:
    model, x = net(), images()
    expected = model.classify((x - 0.5) / 0.25)
    model.mean.fill_(0.5)
    model.std.fill_(0.25)
    torch.testing.assert_close(model.classify(x), expected)


def test_created_by_name() -> None:
    model = zoo.create("rot-10-1", num_classes=7)
    assert isinstance(model, RotationNet) and model.num_classes == 7
    assert model.conv1.stride == (2, 2) and model.split == 2


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"depth": 12}, "depth must be .*not 12"),
        ({"width": 0}, "width must be 1 or more, not 0"),
        ({"split": 4}, "split must be 1, 2 or 3 .*not 4"),
        ({"norm_groups": 3}, "norm_groups must divide 16, not 3"),
    ],
)
def test_bad_sizes(sizes: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        net(**sizes)
