"""Networks that may answer differently have different identities; equal ones the same."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tttlib import adapt, data, evaluate, results, streams
from tttlib.models import zoo
from tttlib.models.identity import content_hash, weights_of


class Own(nn.Module):
    def __init__(self, act: Any = F.relu, scale: Any = 1.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.act, self.scale = act, scale
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.head = nn.Linear(4, 10)
        self.register_buffer("shift", torch.zeros(1), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.scale * self.act(self.body(x)).mean((2, 3))) + self.shift


class Other(Own):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return -super().forward(x)


def changed(change: Callable[[Own], object]) -> Own:
    network = Own()
    with torch.no_grad():
        change(network)
    return network


OTHERS: dict[str, Callable[[], nn.Module]] = {
    "a weight": lambda: changed(lambda n: n.body[0].weight[-1, -1, -1, -1].add_(1e-6)),
    "a running mean": lambda: changed(lambda n: n.body[1].running_mean.add_(1)),
    "a buffer outside the state dict": lambda: changed(lambda n: n.shift.add_(1)),
    "a module without weights": lambda: changed(lambda n: n.body.append(nn.ReLU())),
    "a stride": lambda: changed(lambda n: setattr(n.body[0], "stride", (2, 2))),
    "a number": lambda: Own(scale=2.0),
    "a tensor that is no buffer": lambda: Own(scale=torch.tensor(1.0)),
    "another tensor": lambda: Own(scale=torch.tensor(2.0)),
    "a function": lambda: Own(act=F.gelu),
    "a lambda": lambda: Own(act=lambda x: x + 1),
    "another lambda": lambda: Own(act=lambda x: x + 2),
    "a partial": lambda: Own(act=partial(F.leaky_relu, negative_slope=0.1)),
    "another partial": lambda: Own(act=partial(F.leaky_relu, negative_slope=0.2)),
    "a subclass": Other,
    "half precision": lambda: Own().half(),
}


def test_every_difference_counts() -> None:
    hashes = {name: content_hash(make()) for name, make in {"none": Own, **OTHERS}.items()}
    assert len(set(hashes.values())) == len(hashes), hashes


@pytest.mark.parametrize("name", ["a weight", "a lambda", "a partial"])
def test_equal_networks_are_one(name: str) -> None:
    one, other = OTHERS[name](), OTHERS[name]()
    other.train().requires_grad_(False)
    assert content_hash(one) == content_hash(other) == content_hash(copy.deepcopy(one))
    assert content_hash(one.to(memory_format=torch.channels_last)) == content_hash(other)


def test_another_process_agrees() -> None:
    code = (
        "import torch; from torch import nn; from tttlib.models.identity import content_hash;"
        "torch.manual_seed(0); print(content_hash(nn.Sequential(nn.Linear(3, 2), nn.GELU())))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    torch.manual_seed(0)
    assert done.stdout.strip() == content_hash(nn.Sequential(nn.Linear(3, 2), nn.GELU()))


def test_a_loaded_network_keeps_the_hash_of_its_file_until_it_is_changed() -> None:
    network = zoo.load(zoo.bundled()[0])
    kept = network.card["weights_sha256"]
    assert weights_of(network) == weights_of(copy.deepcopy(network).train()) == kept
    with torch.no_grad():
        next(network.parameters()).view(-1)[0] += 1e-6
    assert weights_of(network) == content_hash(network) != kept
    other = zoo.load("wrn-scenes")
    norm = next(m for m in other.modules() if isinstance(m, nn.BatchNorm2d))
    norm.eps *= 2
    assert weights_of(other) == content_hash(other) != other.card["weights_sha256"]


@pytest.mark.parametrize("name", zoo.bundled())
def test_use_changes_no_bundled_network(name: str) -> None:
    network = zoo.load(name)
    images = torch.rand(4, 3, *[64 if "imagenet" in name else 32] * 2)
    with torch.no_grad():
        getattr(network, "classify", network)(images)
    assert weights_of(network) == network.card["weights_sha256"]


def test_rows_of_own_networks_are_their_own(tmp_path: Any) -> None:
    images = data.load("scenes", "test", n=20)
    store = results.Store(tmp_path)
    networks = [Own().eval(), Other().eval(), OTHERS["a number"]().eval(), Own().eval()]
    for network in networks:
        stream = streams.continual(images, ["clean"], severity=1, batch_size=10)
        rows = evaluate.adaptation(network, stream, "source", store=store, progress=False).rows
        source = adapt.create("source", network)
        expected = torch.cat([source(batch.images).argmax(1) for batch in stream])
        assert rows["prediction"].tolist() == expected.tolist()
    files = list(tmp_path.glob("adaptation-*.parquet"))
    assert len(files) == 3  # the last network is the first one again
    assert {results.provenance(path)["unit"]["model"] for path in files} == {"unnamed"}
