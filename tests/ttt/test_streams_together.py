"""Several online streams on a stack: each is what it is alone, for both kinds of network."""

from __future__ import annotations

import copy
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from tiny_mae import tiny_mae
from torch import Tensor, nn

from tttlib import ttt
from tttlib.models import RotationNet, zoo
from tttlib.ttt import arrivals, rotation

Call = dict[str, Any]
LENGTHS = (2, 4, 3, 4)


def autoencoder() -> nn.Module:
    return tiny_mae(img_size=16)


def rotator() -> nn.Module:
    torch.manual_seed(0)
    return RotationNet(num_classes=3, norm_groups=4, stem_stride=2).double().eval()


BOTH = pytest.mark.parametrize(
    ("make", "module"), [(autoencoder, ttt), (rotator, rotation)], ids=["mae", "rotation"]
)


def pictures(n: int, seed: int, dtype: torch.dtype = torch.float64, side: int = 16) -> Tensor:
    return torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(seed)).to(dtype)


def calls(lengths: tuple[int, ...] = LENGTHS, **settings: Any) -> list[Call]:
    """Streams with images, ids, seeds, rates and held-out sets of their own."""
    return [
        {
            "images": pictures(n, seed=s), "ids": torch.arange(s, s + n), "seed": s,
            "lr": (0.05, 0.02, 0.05)[s % 3], "steps": 2, "batch_size": 3, "evaluate_every": s + 1,
            "heldout": None if s == 1 else pictures(5, seed=9), **settings,
        }
        for s, n in enumerate(lengths)
    ]  # fmt: skip


def assert_each_is_alone(
    module: ModuleType, net: nn.Module, several: list[Call], atol: float
) -> dict[int, ttt.TTTResult]:
    before = {name: value.clone() for name, value in net.state_dict().items()}
    together = dict(module.run_streams(net, several))
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert sorted(together) == list(range(len(several)))
    for s, call in enumerate(several):
        alone, found = module.run(copy.deepcopy(net), **call, online=True), together[s]
        for name in ("losses", "logits", "heldout_logits", "latents"):
            a, b = getattr(found, name), getattr(alone, name)
            assert (a is None) == (b is None)
            if a is not None:
                torch.testing.assert_close(a, b, atol=atol, rtol=0, equal_nan=True)
        assert torch.equal(found.failed, alone.failed)
        assert (found.heldout_at, found.evaluated_at) == (alone.heldout_at, alone.evaluated_at)
    return together


@BOTH
@pytest.mark.parametrize("lengths", [(3,), (4, 4), LENGTHS], ids=["1", "2", "4"])
def test_streams_of_any_number_and_length(
    make: Callable[[], nn.Module], module: ModuleType, lengths: tuple[int, ...]
) -> None:
    found = assert_each_is_alone(module, make(), calls(lengths), atol=1e-6)
    assert [len(found[s].losses) for s in range(len(lengths))] == list(lengths)
    moved = found[0].logits[:, 0] - found[0].logits[:, -1]
    assert moved.abs().max() > 1e-3


@pytest.mark.parametrize("optimizer", ttt.OPTIMIZERS)
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"reset_optimizer": True, "weight_decay": 0.1},
        {"calm": {"average": 0.8, "pull": 0.1, "restore": 0.2}},
        {"momentum": 0.0, "finetune": "all", "record_latents": True, "evaluate_at": (2,)},
    ],
    ids=["", "reset", "brakes", "others"],
)
def test_settings_of_the_autoencoder(optimizer: str, settings: Call) -> None:
    several = calls(optimizer=optimizer, **settings)
    assert_each_is_alone(ttt, autoencoder(), several, atol=1e-7)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_no_bit_differs_in_float32(optimizer: str) -> None:
    """On the CPU, for networks of the study's size."""
    several = calls((2, 3, 3), optimizer=optimizer, batch_size=8)
    for s, call in enumerate(several):
        call["images"] = pictures(len(call["images"]), s, torch.float32, side=32)
        call["heldout"] = pictures(3, 9, torch.float32, side=32)
        call["lr"] /= 50
    assert_each_is_alone(ttt, zoo.load("mae-scenes"), several, atol=0)


@BOTH
def test_other_settings_take_their_turns(
    make: Callable[[], nn.Module], module: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    several = calls((2, 2, 2, 2, 2))
    several[1]["steps"] = 1
    several[2]["evaluate_at"] = (0, 1, 2)  # as the default
    streams = [
        arrivals.OnlineStream(torch.zeros(n), lambda i: i, SimpleNamespace(lr=lr), kind)
        for kind, n, lr in [("a", 2, 0.2), ("b", 3, 0.1), ("a", 3, 0.1), ("b", 3, 0), ("a", 2, 0.1)]
    ]
    assert arrivals.stacks_of(streams) == [[2, 4, 0], [3, 1]]
    assert arrivals.stacks_of(streams, 2) == [[2, 4], [0], [3, 1]]
    replicas: list[int] = []
    where, name = (rotation, "StackedRotationNet")
    if module is ttt:
        where, name = (ttt.online, "StackedAutoencoder")
    original = getattr(where, name)
    monkeypatch.setattr(
        where, name, lambda net, names, n: replicas.append(n) or original(net, names, n)
    )
    dict(module.run_streams(make(), several))
    assert sorted(replicas) == [1, 4]


@BOTH
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_broken_image_fails_in_its_stream_alone(
    make: Callable[[], nn.Module], module: ModuleType, value: float
) -> None:
    several = calls()
    several[3]["images"][1, 0, 3, 3] = value
    found = assert_each_is_alone(module, make(), several, atol=1e-6)
    assert [found[s].failed.tolist() for s in (1, 3)] == [[False] * 4, [False, True, False, False]]


@BOTH
def test_a_stream_that_explodes_leaves_the_others_alone(
    make: Callable[[], nn.Module], module: ModuleType
) -> None:
    several = calls()
    several[1]["lr"] = 1e300
    found = assert_each_is_alone(module, make(), several, atol=1e-6)
    assert found[1].failed.all() and found[1].logits.isfinite().all()
    assert not any(found[s].failed.any() for s in (0, 2, 3))


@BOTH
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"lr": -1.0}, "lr must be 0 or more"),
        ({"ids": torch.arange(7)}, "4 images but 7 ids"),
        ({"evaluate_every": 0}, "evaluate_every of 1 or more"),
        ({"images": torch.zeros(4, 16, 16)}, r"\[4, 16, 16\]"),
    ],
)
def test_bad_settings_of_one_stream(
    make: Callable[[], nn.Module], module: ModuleType, wrong: Call, message: str
) -> None:
    several = calls()
    several[3].update(wrong)
    with pytest.raises(ValueError, match=message):
        dict(module.run_streams(make(), several))
