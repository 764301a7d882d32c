"""DeYO against a plain loop that branches, and its three ways to destroy a shape."""

from __future__ import annotations

from typing import Any

import pytest
import small_networks as small
import torch
from torch import Tensor
from torch.nn import functional as F

from tttlib import adapt
from tttlib.adapt.common.losses import entropy

MARGIN, WEIGHT_MARGIN, THRESHOLD = 0.5, 0.45, 0.2
ORDER = [(5 * i + 3) % 16 for i in range(16)]


def create(**overrides: Any) -> Any:
    how = {"lr": 0.01, "margin": MARGIN, "weight_margin": WEIGHT_MARGIN, "threshold": THRESHOLD}
    return adapt.create("deyo", small.Golden(), **{**how, **overrides})


def plain(
    batches: int, destroyed: Any, threshold: float
) -> tuple[list[Tensor], list[Tensor], list[int]]:
    """Answers, trained tensors and numbers of selected images."""
    net = small.batch_statistics(small.Golden())
    trained = [p for n, p in net.named_parameters() if "bn" in n]
    adam = torch.optim.Adam(trained, lr=0.01)
    answers, numbers = [], []
    for t in range(batches):
        x = small.golden_batch(t)
        z = net(x)
        answers.append(z.detach())
        h, p = entropy(z), z.detach().softmax(1)
        reliable = [b for b in range(len(x)) if h[b] < MARGIN]
        selected, drops = [], []
        if reliable:
            with torch.no_grad():
                after = net(torch.stack([destroyed(x[b]) for b in reliable])).softmax(1)
            for b, row in zip(reliable, after, strict=True):
                y = p[b].argmax()
                if (p[b, y] - row[y]) > threshold:
                    selected.append(b)
                    drops.append(p[b, y] - row[y])
        numbers.append(len(selected))
        if not selected:
            continue
        weights = (WEIGHT_MARGIN - h[selected].detach()).exp() + torch.stack(drops).exp()
        adam.zero_grad()
        (weights * h[selected]).mean().backward()
        adam.step()
    return answers, [p.detach() for p in trained], numbers


def patches_by_loops(image: Tensor) -> Tensor:
    """New patch i is old patch ORDER[i]; 4 x 4 of them, row by row."""
    new, side = torch.empty_like(image), image.shape[1] // 4
    for i, old in enumerate(ORDER):
        (r, c), (s, d) = divmod(i, 4), divmod(old, 4)
        part = image[:, s * side : (s + 1) * side, d * side : (d + 1) * side]
        new[:, r * side : (r + 1) * side, c * side : (c + 1) * side] = part
    return new


def square_by_loops(image: Tensor) -> Tensor:
    new = image.clone()
    for channel in range(3):
        new[channel, 1:6, 2:7] = image[channel].mean()
    return new


def pixels_by_loops(image: Tensor) -> Tensor:
    flat = image.flatten(1)
    return torch.stack([flat[:, 63 - i] for i in range(64)], 1).view_as(image)


@pytest.mark.parametrize(
    ("overrides", "destroyed"),
    [
        ({"permutation": ORDER}, patches_by_loops),
        ({"destroy": "occlusion", "occlusion": (1, 2, 5), "threshold": 0.1}, square_by_loops),
        ({"destroy": "pixel", "permutation": range(63, -1, -1)}, pixels_by_loops),
    ],
)
def test_equal_to_the_plain_form(overrides: dict, destroyed: Any) -> None:
    adapter = create(**overrides)
    answers, trained, numbers = plain(8, destroyed, adapter.config.threshold)
    assert max(numbers) > 1 and (0 in numbers or destroyed is patches_by_loops)
    for t, expected in enumerate(answers):
        got = adapter(small.golden_batch(t))
        torch.testing.assert_close(got, expected, atol=1e-11, rtol=0)
        assert adapter.diagnostics["selected"] == numbers[t]
    for got, expected in zip(adapter.parameters, trained, strict=True):
        torch.testing.assert_close(got.detach(), expected, atol=1e-11, rtol=0)


@pytest.mark.parametrize("nothing", [{"margin": 0.0}, {"threshold": 2.0}])
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_nothing_selected_moves_nothing(nothing: dict, optimizer: str) -> None:
    """Also the momentum of earlier batches does not."""
    adapter = create(optimizer=optimizer)
    adapter(small.golden_batch(0))
    assert adapter.diagnostics["selected"] > 0
    before = small.weights(adapter)
    for name, value in nothing.items():
        object.__setattr__(adapter.config, name, value)
    adapter(small.golden_batch(1))
    assert adapter.diagnostics["selected"] == 0
    assert small.same(small.weights(adapter), before)


def test_only_reliable_images_are_destroyed() -> None:
    adapter = create()
    seen: list[int] = []
    adapter.model.register_forward_hook(lambda net, x, z: seen.append(len(x[0])))
    adapter(small.golden_batch(0))
    assert seen == [8, int(adapter.diagnostics["reliable"])] and 0 < seen[1] < 8


def test_permutations_are_drawn_for_every_image() -> None:
    adapter = create()
    x = torch.arange(16.0).view(1, 1, 4, 4).repeat_interleave(2, 2).repeat_interleave(2, 3)
    x = x.expand(6, 3, 8, 8)
    shuffled = adapter._destroyed(x)
    kinds = [image[0, ::2, ::2].flatten().tolist() for image in shuffled]
    assert all(sorted(kind) == list(range(16)) for kind in kinds)  # whole patches
    assert len({tuple(kind) for kind in kinds}) == 6
    assert not torch.equal(adapter._destroyed(x), shuffled)  # and for every batch


def test_pixels_move_alike_in_all_images_and_channels() -> None:
    adapter = create(destroy="pixel")
    x = torch.arange(64.0).view(8, 8).expand(5, 3, 8, 8)
    moved = adapter._destroyed(x)
    assert torch.equal(moved, moved[:1, :1].expand_as(moved)) and not torch.equal(moved, x)
    assert moved[0, 0].flatten().sort().values.tolist() == list(range(64))


def test_images_whose_side_is_no_multiple_are_resized() -> None:
    x = small.exact_images(2, size=10)
    got = create(permutation=ORDER)._destroyed(x)
    small_x = F.interpolate(x, (8, 8), mode="bilinear", antialias=True)
    expected = torch.stack([patches_by_loops(image) for image in small_x])
    expected = F.interpolate(expected, (10, 10), mode="bilinear", antialias=True)
    assert got.shape == x.shape and torch.equal(got, expected)
    wide = small.exact_images(2)[:, :, :, :4]
    assert create()._destroyed(wide).shape == wide.shape


def test_the_square_in_the_middle() -> None:
    """The official one, of images of 224 pixels."""
    x = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    given = create(destroy="occlusion", occlusion=(56, 56, 112))._destroyed(x)
    assert torch.equal(create(destroy="occlusion")._destroyed(x), given)


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        ({"patches": 9}, "patches is 9, more than the images' 8 x 8 pixels"),
        ({"permutation": [0, 1]}, "permutation must have each of the numbers 0 to 15 once"),
        ({"permutation": [0] * 16}, "permutation must have"),
        ({"destroy": "occlusion", "occlusion": (8, 0, 2)}, "misses 8 x 8 pixels"),
    ],
)
def test_what_has_no_meaning(wrong: dict, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        create(**wrong)(small.golden_batch(0))


def test_margins_are_shares_of_the_logarithm_of_the_number_of_classes() -> None:
    presets = [adapt.METHODS["deyo"].presets[p] for p in adapt.PRESETS]
    assert {(c.margin, c.weight_margin, c.threshold, c.patches) for c in presets} == {
        (None, None, 0.2, 4)
    }
    x, c = small.golden_batch(0), torch.tensor(5.0, dtype=torch.float64).log()
    by_name = create(margin=None, weight_margin=None, permutation=ORDER)
    by_value = create(margin=float(0.5 * c), weight_margin=float(0.4 * c), permutation=ORDER)
    by_name(x), by_value(x)
    assert torch.equal(by_name.diagnostics["loss"], by_value.diagnostics["loss"])
