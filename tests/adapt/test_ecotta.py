"""EcoTTA: its parts, one step and the warm-up against plain loops, what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from small_networks import CLASSES, batch_statistics, convolutional, thin_resnet
from small_networks import exact_images as images
from small_networks import tiny_autoencoder as autoencoder
from torch import Tensor, nn
from torch.nn import functional as F

from tttlib import adapt
from tttlib.adapt.common.meta_networks import ends_of_parts
from tttlib.adapt.ecotta import WarmUp
from tttlib.data import ImageSet

COLD = WarmUp(epochs=0)


def batches(epoch: int) -> list[tuple[Tensor, Tensor]]:
    return [(images(6, 10 * epoch + n), torch.arange(6) % CLASSES) for n in range(2)]


def create(model: nn.Module | None = None, **overrides: Any) -> adapt.Adapter:
    overrides = {"source": batches, "warm_up": COLD, **overrides}
    return adapt.create("ecotta", thin_resnet() if model is None else model, **overrides)


class Plain(nn.Module):
    """The same network written out for a WRN-10 in three parts."""

    def __init__(self, adapter: adapt.Adapter) -> None:
        super().__init__()
        whole = batch_statistics(thin_resnet())
        self.network = whole
        self.parts = [whole.block1.layer[0], whole.block2.layer[0], whole.block3.layer[0]]
        self.meta = nn.ModuleList()
        for meta, stride in zip(adapter.model.meta, (1, 2, 2), strict=True):
            outside, inside = meta.conv.weight.shape[:2]
            conv = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
            norms = {"norm": nn.BatchNorm2d(outside), "conv_norm": nn.BatchNorm2d(outside)}
            mine = nn.ModuleDict({**norms, "conv": conv}).double()
            mine.load_state_dict(meta.state_dict())
            self.meta.append(mine.train())

    def forward(self, x: Tensor, detached: bool = False) -> tuple[Tensor, list[Tensor]]:
        x, distances = self.network.conv1(x), []
        for part, meta in zip(self.parts, self.meta, strict=True):
            x = x.detach() if detached else x
            inner = part(x)
            new = meta["norm"](inner) + torch.relu(meta["conv_norm"](meta["conv"](x)))
            distances.append((new - inner.detach()).abs().mean())
            x = new
        return self.network.fc(torch.relu(self.network.bn1(x)).mean((2, 3))), distances


@pytest.mark.parametrize("two_steps", [False, True])
def test_equals_the_loop(two_steps: bool) -> None:
    adapter = create(two_steps=two_steps, margin=0.8, regularisation=0.3, lr=0.05)
    plain = Plain(adapter)
    optimizer = torch.optim.SGD(plain.meta.parameters(), lr=0.05, momentum=0.9)
    assert len(adapter.trained) == len(list(plain.meta.parameters())) == 15
    some = 0
    for seed in range(4):
        x = images(6, seed)
        if two_steps:
            optimizer.zero_grad()
            (0.3 * sum(plain(x, detached=True)[1])).backward()
            optimizer.step()
        z, distances = plain(x)
        h = -(z.softmax(1) * z.log_softmax(1)).sum(1)
        reliable = h < 0.8
        some += int(0 < reliable.sum() < 6)
        loss = h[reliable].mean() if reliable.any() else 0 * h.sum()
        if not two_steps:
            loss = loss + 0.3 * sum(distances)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        torch.testing.assert_close(adapter(x), z.detach(), rtol=1e-9, atol=1e-10)
        distance = torch.stack(distances).detach()
        torch.testing.assert_close(adapter.diagnostics["distance"], distance)
    assert some  # of the batches have both kinds of images
    for ours, theirs in zip(adapter.model.meta, plain.meta, strict=True):
        for name, value in theirs.named_parameters():
            torch.testing.assert_close(dict(ours.named_parameters())[name].data, value.data)


def test_the_warm_up_equals_the_loop() -> None:
    how = WarmUp(epochs=4, lr=0.1)
    adapter = create(warm_up=how, warm_up_augment=lambda x: x)
    plain = Plain(create())
    optimizer = torch.optim.SGD(plain.meta.parameters(), lr=0.1, momentum=0.9)
    # Linear over the first epoch; times 0.2 from 1.2, 2.4 and 3.2 epochs on
    rates = [0.05, 0.1, 0.02, 0.02, 0.004, 0.004, 0.0008, 0.0008]
    for (x, labels), rate in zip([b for e in range(4) for b in batches(e)], rates, strict=True):
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        F.cross_entropy(plain(x)[0], labels).backward()
        optimizer.step()
    torch.testing.assert_close(adapter.predict(images(6)), plain(images(6))[0].detach())
    own = adapter.model.state_dict()
    assert all(torch.equal(own[n], value) for n, value in thin_resnet().state_dict().items())


def test_a_warm_up_is_taken_over_from_a_state() -> None:
    first, second = create(warm_up=WarmUp(epochs=2)), create()
    second.load_state_dict(first.state_dict())
    assert all(torch.equal(second(images(5, n)), first(images(5, n))) for n in range(2))
    with pytest.raises(ValueError, match=r"source=data\.load"):
        adapt.create("ecotta", thin_resnet())
    with pytest.raises(ValueError, match="transformers have no feature maps"):
        create(autoencoder())


def test_an_image_set_is_a_source() -> None:
    pixels = (images(10) * 255).byte()
    labels = torch.arange(10) % CLASSES
    source = ImageSet("made", "train", pixels, labels, tuple("abcd"), torch.arange(10), "none")
    how = WarmUp(epochs=2, batch_size=4)
    first, second, other = (create(source=source, warm_up=how, seed=s) for s in (0, 0, 1))
    assert not torch.equal(first.predict(images(4)), other.predict(images(4)))
    assert torch.equal(first.predict(images(4)), second.predict(images(4)))
    assert not torch.equal(first.predict(images(4)), create(source=source).predict(images(4)))


def test_a_generator_is_a_source_and_cosine_ends_at_zero() -> None:
    how = WarmUp(epochs=2, schedule="cosine")
    listed = create(warm_up=how)
    generated = create(source=lambda epoch: iter(batches(epoch)), warm_up=how)
    assert torch.equal(listed.predict(images(4)), generated.predict(images(4)))
    assert how.rate(2) == pytest.approx(0) and how.rate(1) == pytest.approx(0.025)
    steps = WarmUp()
    rates = [steps.rate(epoch) for epoch in (0.5, 1, 3, 6, 8, 10)]
    assert rates == pytest.approx([0.025, 0.05, 0.01, 0.002, 0.0004, 0.0004])


@pytest.mark.parametrize(
    ("number", "parts", "sizes"),
    [
        (12, 5, (2, 2, 2, 2, 4)),
        (12, 4, (2, 2, 4, 4)),
        (16, 5, (2, 2, 4, 4, 4)),
        (16, 4, (3, 3, 5, 5)),
        (9, 5, (1, 2, 2, 2, 2)),
        (6, 5, (1, 1, 1, 1, 2)),
        (3, 5, (1, 1, 1)),
        (4, (1, 3), (1, 3)),
    ],
)
def test_cut_points(number: int, parts: Any, sizes: tuple[int, ...]) -> None:
    ends = ends_of_parts([str(n) for n in range(number)], parts)
    assert tuple(int(b) - int(a) + 1 for a, b in ends) == sizes
    assert int(ends[0][0]) == 0 and int(ends[-1][1]) == number - 1


def test_blocks_of_other_networks_can_be_named() -> None:
    model = convolutional()
    adapter = create(model, blocks=("conv1", "conv2"), parts=2)
    assert adapter(images(4)).shape == (4, CLASSES)
    assert [tuple(shape) for shape in adapter.memory["shapes"]] == [(3, 4, 1), (4, 6, 2)]
    with pytest.raises(ValueError, match=r"name|Name"):
        create(model)
    with pytest.raises(ValueError, match="add up to 2"):
        create(model, blocks=("conv1", "conv2"), parts=(1, 2))
    with pytest.raises(ValueError, match="feature maps"):
        create(model, blocks=("conv1", "fc"), parts=2)
