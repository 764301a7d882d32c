"""How many images at once: doubled while that pays, within memory."""

from __future__ import annotations

import time

import pytest
import torch

from tttlib import ttt
from tttlib.models import zoo
from tttlib.ttt import batching
from tttlib.ttt.batching import (
    StackSize,
    activations,
    fitting,
    free_memory,
    masks_at_once,
    out_of_memory,
)
from tttlib.ttt.settings import Settings
from tttlib.ttt.sgd import Rule, StackedOptimizer
from tttlib.ttt.stacked import StackedAutoencoder


def sizes(seconds: dict[int, float], most: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The stacks of 8 rounds when a stack of S images takes seconds[S]."""
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    size, taken = StackSize(most), []
    for _ in range(8):
        n = size.next()
        with size.measuring(n):
            now[0] += seconds[n]
        taken.append(n)
    return taken


def test_doubles_while_it_pays_and_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {4: 4.0, 8: 6.0, 16: 10.0, 32: 20.0, 64: 1.0}
    assert sizes(seconds, 100, monkeypatch) == [4, 8, 16, 32, 16, 16, 16, 16]


def test_memory_limits_it(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {4: 4.0, 8: 4.0, 11: 4.0}
    assert sizes(seconds, 11, monkeypatch) == [4, 8, 11, 11, 11, 11, 11, 11]
    assert sizes({1: 1.0}, 1, monkeypatch) == [1] * 8
    assert sizes({1: 1.0}, 0, monkeypatch) == [1] * 8


def test_a_fixed_size_stays_and_a_rest_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    size = StackSize(100, fixed=5)
    for _ in range(3):
        assert size.next() == 5
        with size.measuring(5):
            pass
    size = StackSize(100)
    with size.measuring(3):  # what was left, not a stack of 4
        pass
    assert size.next() == 4


def test_words_of_the_allocators() -> None:
    assert out_of_memory(torch.OutOfMemoryError("CUDA out of memory."))
    assert out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"))
    assert not out_of_memory(RuntimeError("shape '[2]' is invalid"))


def test_a_real_allocation_that_fails_is_recognised() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert out_of_memory(caught.value)


def test_what_fits_follows_masks_weights_and_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    assert free_memory(torch.device("cpu")) > 2**20
    model = zoo.create("scenes")

    def fit(batch: int, optimizer: str = "sgd") -> int:
        return fitting(model, Settings(steps=1, batch_size=batch, lr=0.1, optimizer=optimizer))

    monkeypatch.setattr(batching, "free_memory", lambda device: 2**32)
    assert fit(1) > fit(8) > fit(128) >= 1
    assert fit(1, "adamw") < fit(1)
    plenty = fit(8)
    monkeypatch.setattr(batching, "free_memory", lambda device: 2**31)
    assert abs(fit(8) - plenty / 2) <= 1
    monkeypatch.setattr(batching, "free_memory", lambda device: 1)
    assert fit(8) == 1


@pytest.mark.parametrize("batch_size", [2, 16])
def test_the_account_of_memory_is_roughly_right(batch_size: int) -> None:
    """What autograd keeps of one stack, against the activations of the account."""
    model = zoo.create("scenes").eval()
    names, replicas = ttt.trained_parameters(model, "encoder"), 4
    net = StackedAutoencoder(model, names, replicas)
    StackedOptimizer(net, Rule("sgd", 0.1))
    kept: dict[int, int] = {}

    def pack(x: torch.Tensor) -> torch.Tensor:
        storage = x.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return x

    images = torch.rand(replicas, 3, 32, 32)
    order = torch.rand(replicas, batch_size, 64).argsort(-1)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        loss = net.losses(images, model.target(images), order, 16)
    weights = sum(value.numel() * 4 for value in net.parameters.values())
    real = (sum(kept.values()) - weights) / replicas / batch_size
    loss.sum().backward()
    assert 0.7 < activations(model, 16) / real < 1.5


def test_masks_are_split_evenly_by_a_constant_number_of_bytes() -> None:
    with torch.device("meta"):
        small, large = zoo.create("small"), zoo.create("large")
    assert masks_at_once(zoo.create("scenes"), 128, 16) == 128
    groups = {n: masks_at_once(small, n, 49) for n in (1, 8, 32, 128)}
    assert groups[1] == 1 and groups[8] == 8 and groups[32] == 16
    assert groups[128] * activations(small, 49) <= 2**31 < 2 * 128 * activations(small, 49)
    assert 1 <= masks_at_once(large, 128, 49) < 128
