"""ActMAD against its equation in a plain loop; source statistics; the form that is reset."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import small_networks as small
import torch
from small_networks import convolutional, thin_resnet
from small_networks import exact_images as images
from torch import Tensor, nn

from tttlib import adapt, data

SOURCE = images(10, seed=7)


def moments(y: Tensor) -> tuple[Tensor, Tensor]:
    return y.mean(0), y.var(0)


def normalised(net: Any, x: Tensor) -> list[Tensor]:
    """What comes out of the two BatchNorm layers."""
    one = net.bn1(net.conv1(x))
    return [one, net.bn2(net.conv2(torch.relu(one)))]


def test_equals_the_loop() -> None:
    net = convolutional()
    how = {"optimizer": "sgd", "lr": 0.05, "momentum": 0.9}
    adapter = adapt.create("actmad", net, source=list(SOURCE.split(4)), **how)
    plain = copy.deepcopy(net)
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.05, momentum=0.9)
    with torch.no_grad():
        kept = [moments(y) for y in normalised(plain, SOURCE)]
    for seed in range(4):
        x = images(5, seed)
        distances = []
        for y, (mean, variance) in zip(normalised(plain, x), kept, strict=True):
            m, v = moments(y)
            distances.append((m - mean).abs().mean() + (v - variance).abs().mean())
        optimizer.zero_grad()
        sum(distances).backward()
        optimizer.step()
        with torch.no_grad():
            torch.testing.assert_close(adapter(x), plain(x))
        torch.testing.assert_close(adapter.diagnostics["distance"], torch.stack(distances).detach())
        assert adapter.layers == ("bn1", "bn2")
    assert torch.equal(adapter.model.fc.weight, net.fc.weight)  # behind all that is matched


def test_the_answer_before_the_update() -> None:
    net, x = convolutional(), images(5)
    adapter = adapt.create("actmad", net, source=[SOURCE], predict_first=True, lr=0.1)
    assert torch.equal(adapter(x), net(x)) and not torch.equal(adapter.predict(x), net(x))


def test_reset_before_every_batch() -> None:
    net = convolutional()
    how = {"source": [SOURCE], "lr": 0.1, "optimizer": "adam", "reset": "batch", "steps": 2}
    adapter = adapt.create("actmad", net, **how)
    answers = [adapter(images(5, seed)) for seed in (0, 1, 0)]
    assert torch.equal(answers[0], answers[2]) and not torch.equal(answers[0], net(images(5, 0)))
    assert torch.equal(answers[1], adapt.create("actmad", net, **how)(images(5, 1)))
    lasting = adapt.create("actmad", net, **{**how, "reset": "never"})
    twice = [lasting(images(5, seed)) for seed in (0, 1)]
    assert torch.equal(twice[0], answers[0]) and not torch.equal(twice[1], answers[1])


def test_the_distance_falls_without_batch_norm() -> None:
    for make in (small.rotation_net, small.autoencoder):
        adapter = adapt.create("actmad", make(), source=[small.images(20, seed=5)], lr=0.01)
        x = small.images(8) ** 3
        losses = [float((adapter(x), adapter.diagnostics["loss"])[1]) for _ in range(6)]
        assert losses[-1] < 0.95 * losses[0]
        assert not any(name.startswith(("rotation_", "decoder_")) for name in adapter.layers)


def test_a_layer_whose_output_is_overwritten() -> None:
    net = convolutional()
    plain = nn.Sequential(net.conv1, net.bn1, nn.ReLU(), net.conv2, net.bn2, nn.ReLU())
    plain = nn.Sequential(*plain, nn.AdaptiveAvgPool2d(1), nn.Flatten(), net.fc).eval()
    in_place = copy.deepcopy(plain)
    for module in in_place.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = True
    one, other = (adapt.create("actmad", n, source=[SOURCE], lr=0.1) for n in (plain, in_place))
    for seed in range(2):
        torch.testing.assert_close(one(images(4, seed)), other(images(4, seed)))


def test_source_as_an_image_set() -> None:
    scenes = data.load("scenes", "train", n=12)
    net = thin_resnet()
    how = {"source_images": 10, "source_batch": 3}
    adapter = adapt.create("actmad", net, source=scenes, **how, seed=4)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(4))[:10]
    by_hand = adapt.create("actmad", net, source=[scenes.images[order]])
    for part in ("means", "variances"):
        for a, b in zip(adapter.memory[part], by_hand.memory[part], strict=True):
            torch.testing.assert_close(a, b)


def test_what_has_no_meaning() -> None:
    net = convolutional()
    with pytest.raises(ValueError, match="actmad compares with clean images: pass source="):
        adapt.create("actmad", net)
    for few in ([], [SOURCE[:1]]):
        with pytest.raises(ValueError, match="two or more source images"):
            adapt.create("actmad", net, source=few)
    with pytest.raises(ValueError, match="normalisation layers, and this model has none"):
        bare = nn.Sequential(nn.Flatten(), nn.Linear(192, 4)).double()
        adapt.create("actmad", bare, source=[SOURCE])
    adapter = adapt.create("actmad", net, source=[SOURCE])
    with pytest.raises(ValueError, match="size of the source images"):
        adapter(images(3, size=16))


def test_of_one_image_the_means_count() -> None:
    adapter = adapt.create("actmad", convolutional(), source=[SOURCE], lr=0.1)
    x = images(1)
    first = normalised(convolutional(), x)
    kept = [y.mean(0) for y in normalised(convolutional(), SOURCE)]
    expected = sum((y[0] - m).abs().mean() for y, m in zip(first, kept, strict=True))
    adapter(x)
    torch.testing.assert_close(adapter.diagnostics["loss"], expected.detach())
