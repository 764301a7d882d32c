"""Which network a row comes from: content decides, files where they were loaded unchanged."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from tttlib import adapt, data, evaluate, results, streams
from tttlib.models import zoo
from tttlib.models.identity import content_hash, weights_identity


def own(seed: int = 0, last: type[nn.Module] = nn.ReLU, eps: float = 1e-5) -> nn.Module:
    torch.manual_seed(seed)
    layers = [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8, eps=eps), last(), nn.AdaptiveAvgPool2d(1)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(8, 10))


def change(edit: Callable[[nn.Module], object]) -> nn.Module:
    net = zoo.load("wrn-scenes")
    with torch.no_grad():
        edit(net)
    return net


def test_bundled_networks_keep_the_hash_of_their_file() -> None:
    net = zoo.load("wrn-scenes")
    stated = net.card["weights_sha256"]
    for same in (net, copy.deepcopy(net), zoo.load("wrn-scenes").train(), torch.compile(net)):
        assert weights_identity(same) == stated
    assert weights_identity(net.to(memory_format=torch.contiguous_format)) == stated


@pytest.mark.parametrize(
    "edit",
    [
        lambda net: net.fc.bias.add_(1e-6),
        lambda net: net.bn1.running_var.mul_(1.001),
        lambda net: net.mean.add_(0.01),
        lambda net: net.std.mul_(2),
        lambda net: net.half(),
        lambda net: setattr(net.fc.bias, "data", net.fc.bias.data.flip(0)),
        lambda net: setattr(net.bn1, "eps", 1e-3),
        lambda net: setattr(net, "fc", nn.Sequential(net.fc)),
    ],
)
def test_any_change_gives_another_identity(edit: Callable[[nn.Module], object]) -> None:
    net = change(edit)
    assert weights_identity(net) not in (net.card["weights_sha256"], weights_identity(own()))
    assert weights_identity(net) == weights_identity(copy.deepcopy(net))


def test_own_networks_are_named_by_their_content() -> None:
    several = [own(0), own(1), own(0, nn.GELU), own(0, eps=1e-3), own(0).double()]
    assert len({content_hash(net) for net in several}) == len(several)
    again, moved = own(0), own(0).to(memory_format=torch.channels_last).eval()
    assert content_hash(several[0]) == content_hash(again) == content_hash(moved)
    a, b = own(0), own(0)
    b[5].weight.data = b[5].weight.data.reshape(8, 10).reshape(10, 8).flip(1)
    assert content_hash(a) != content_hash(b)


def test_rows_of_two_own_networks_are_kept_apart(tmp_path: Path) -> None:
    images = data.load("scenes", "test", n=20)
    store = results.Store(tmp_path)
    for seed in (0, 1, 0):
        net = own(seed).eval()
        stream = streams.continual(images, ["clean"], severity=1, batch_size=10)
        rows = evaluate.adaptation(net, stream, "source", store=store, progress=False).rows
        adapter = adapt.create("source", net)
        by_hand = torch.cat([adapter(batch.images).argmax(1) for batch in stream])
        assert sorted(rows.prediction) == sorted(by_hand.tolist())
    assert len(list(tmp_path.glob("diagnostics-*.parquet"))) == 2
