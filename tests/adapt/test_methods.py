"""What must hold for every method; a new one is tested as soon as it exists."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import inspect
import io
from typing import Any

import pytest
import small_networks as small
import torch
from small_networks import parameters, same, weights
from torch import Tensor, nn

from tttlib import adapt
from tttlib.adapt.ecotta import WarmUp

# What a method needs besides a network, or to be small: NAME -> overrides, NAME -> network.
OVERRIDES: dict[str, dict[str, Any]] = {
    "cotta": {"n_augmentations": 3},
    "dss": {"n_augmentations": 3},
    "ecotta": {"source": lambda epoch: SOURCE, "warm_up": WarmUp(epochs=2)},
    "adacontrast": {"memory_size": 20, "refine_after": 6, "neighbours": 3},
    "palm_ttt": {"masks": 2},
    # A network with random weights is sure of nothing: everything counts as reliable.
    "eata": {"source": [small.images(8, seed=50)] * 2, "margin": 9.0, "redundancy": 2.0},
    "eta": {"margin": 9.0, "redundancy": 2.0},
    "rdumb": {"margin": 9.0, "redundancy": 2.0, "reset_every": 4},
    "sar": {"margin": 9.0},
    "deyo": {"margin": 9.0, "threshold": -1.0},
    "rotta": {"capacity": 6, "update_every": 4},
    "memo": {"n_views": 3},
    "t3a": {"keep": 1},  # its memory is full at once
    "actmad": {"source": [small.images(8, seed=50)]},
    "rotation": {"n_views": 2},
}
NETWORKS: dict[str, Any] = {"palm_ttt": small.autoencoder, "rotation": small.rotation_net}
EPISODIC = ("memo",)  # back at the source's weights after every image
SOURCE = [(small.images(8, seed=50 + n), torch.arange(8) % 5) for n in range(2)]

pytestmark = pytest.mark.parametrize("name", adapt.NAMES)


def network(name: str) -> nn.Module:
    return NETWORKS.get(name, small.wide_resnet)()


def constants(name: str) -> set[str]:
    return {field.name for field in dataclasses.fields(adapt.METHODS[name].settings(None, {}))}


def create(name: str, net: nn.Module | None = None, **overrides: Any) -> adapt.Adapter:
    """The method with large steps, so that it moves; without what it does not have."""
    net = network(name) if net is None else net
    known = constants(name)
    wanted = {"lr": 0.01, **OVERRIDES.get(name, {}), **overrides}
    return adapt.create(name, net, **{k: v for k, v in wanted.items() if k in known})


def run(adapter: adapt.Adapter, batches: range) -> list[Tensor]:
    return [adapter(small.images(seed=t)) for t in batches]


def test_reset_is_bit_exact(name: str) -> None:
    adapter = create(name)
    start = weights(adapter)
    first = run(adapter, range(3))
    assert all(z.shape == (6, 5) and not z.requires_grad and z.isfinite().all() for z in first)
    after = weights(adapter)
    adapter.reset()
    assert same(weights(adapter), start)
    assert all(map(torch.equal, run(adapter, range(3)), first))
    assert same(weights(adapter), after)


def test_state_in_mid_stream_continues_bit_by_bit(name: str) -> None:
    whole, half = create(name), create(name)
    expected = run(whole, range(4))
    run(half, range(2))
    file = io.BytesIO()
    torch.save(half.state_dict(), file)
    file.seek(0)
    run(half, range(2, 3))  # must not reach what was saved
    resumed = create(name)
    run(resumed, range(7, 8))  # must leave nothing behind
    resumed.load_state_dict(torch.load(file, weights_only=True))
    assert all(map(torch.equal, run(resumed, range(2, 4)), expected[2:]))
    assert same(weights(resumed), weights(whole))


def test_a_state_of_another_method_or_architecture_is_refused(name: str) -> None:
    adapter = create(name)
    state = adapter.state_dict()
    with pytest.raises(ValueError, match="state of 'nothing'"):
        adapter.load_state_dict({**state, "method": "nothing"})
    more = {part: {**values, "extra": torch.ones(1)} for part, values in state["networks"].items()}
    with pytest.raises(ValueError, match="another architecture"):
        adapter.load_state_dict({**state, "networks": more})


def test_without_a_learning_rate_nothing_is_learned(name: str) -> None:
    # RoTTA's statistics and SHOT-IM's move without one
    adapter = create(name, lr=0.0, augment=small.flip, restore=0.0, bn_momentum=0.0)
    before = parameters(adapter)
    for t in range(3):
        x = small.images(seed=t)
        logits = adapter(x)
        assert torch.equal(logits, adapter.predict(x))
    assert same(parameters(adapter), before)


def test_only_declared_parameters_move(name: str) -> None:
    adapter = create(name)
    before = parameters(adapter)
    assert set(adapter.trained) <= set(before)
    run(adapter, range(3))
    moved = {n for n, value in parameters(adapter).items() if not torch.equal(value, before[n])}
    assert moved <= set(adapter.trained)
    assert bool(moved) == (bool(adapter.trained) and name not in EPISODIC)


def test_the_callers_network_is_untouched(name: str) -> None:
    net = network(name).train()
    next(net.parameters()).requires_grad_(False)
    before = {n: v.clone() for n, v in net.state_dict().items()}
    flags = [p.requires_grad for p in net.parameters()]
    run(create(name, net), range(2))
    assert same({n: v.clone() for n, v in net.state_dict().items()}, before)
    assert [p.requires_grad for p in net.parameters()] == flags and net.training
    assert all(p.grad is None for p in net.parameters())


def test_nothing_but_the_images_matters(name: str) -> None:
    assert list(inspect.signature(adapt.METHODS[name].__call__).parameters) == ["self", "images"]
    torch.manual_seed(1)
    first = run(create(name, net := network(name)), range(2))
    torch.manual_seed(2)
    state = torch.get_rng_state()
    adapter = create(name, net)
    with torch.no_grad():
        second = run(adapter, range(1))
    with torch.inference_mode():
        second += run(adapter, range(1, 2))
    assert all(map(torch.equal, first, second))
    assert torch.equal(torch.get_rng_state(), state)


def test_memory_is_flat(name: str) -> None:
    adapter = create(name)

    def held() -> int:
        gc.collect()
        return sum(o.nbytes for o in gc.get_objects() if type(o) in (Tensor, nn.Parameter))

    run(adapter, range(3))
    after_three = held()
    run(adapter, range(3, 8))
    assert held() <= after_three * 1.01


UNUSUAL = {
    "one image": lambda x: x[:1],
    "one class": lambda x: x[:1].expand(6, -1, -1, -1),
    "constant images": lambda x: torch.full_like(x, 0.5),
    "black": torch.zeros_like,
    "a pixel is NaN": lambda x: x.index_fill(0, torch.tensor([2]), torch.nan),
    "infinite": lambda x: x.index_fill(0, torch.tensor([2]), torch.inf),
}


@pytest.mark.parametrize("case", UNUSUAL)
def test_unusual_batches(name: str, case: str) -> None:
    adapter = create(name)
    x = UNUSUAL[case](small.images())
    for _ in range(3):
        assert adapter(x).isfinite().all()
    assert all(value.isfinite().all() for value in weights(adapter).values())
    assert all(logits.isfinite().all() for logits in run(adapter, range(2)))


def test_logits_that_are_not_finite_teach_nothing(name: str) -> None:
    adapter = create(name)
    run(adapter, range(2))

    def overflow(module: nn.Module, inputs: tuple[Tensor]) -> Tensor:
        n = len(inputs[0])  # of the batch, or of what the method makes of it
        return inputs[0] * 3e38 * torch.tensor([1, -1]).repeat(n)[:n].view(n, 1, 1, 1)

    with contextlib.ExitStack() as stack:
        for net in adapter.networks.values():
            stack.enter_context(net.register_forward_pre_hook(overflow))
        assert not adapter(small.images()).isfinite().all()
    assert all(value.isfinite().all() for value in weights(adapter).values())
    assert all(logits.isfinite().all() for logits in run(adapter, range(2)))


def test_what_comes_in(name: str) -> None:
    """Bytes and other floating-point types are images too; what is none is refused."""
    net, x = network(name), small.images()
    grey = (x * 255).byte()
    before = grey.clone()
    expected = create(name, net)(grey.float() / 255)
    assert torch.equal(create(name, net)(grey), expected) and torch.equal(grey, before)
    assert torch.equal(create(name, net)(grey.double() / 255), expected)
    adapter = create(name, net)
    for wrong in (x[0], x[:0], x.numpy(), list(x), grey.long(), x * 255, (x - 0.5) / 0.5):
        with pytest.raises(ValueError, match="images"):
            adapter(wrong)


def test_diagnostics_are_of_the_last_batch_and_detached(name: str) -> None:
    adapter = create(name)
    run(adapter, range(2))
    assert all(isinstance(v, Tensor) and not v.requires_grad for v in adapter.diagnostics.values())
    adapter.reset()
    assert adapter.diagnostics == {}


def test_presets(name: str) -> None:
    presets = adapt.METHODS[name].presets
    assert set(presets) <= set(adapt.PRESETS) and "cifar10-c" in presets
    for config in presets.values():
        with pytest.raises(dataclasses.FrozenInstanceError):
            config.lr = 1  # type: ignore[misc]
    assert adapt.METHODS[name].settings(None, {}) == presets["cifar10-c"]
    with pytest.raises(ValueError, match=f"{name} has no preset 'cifar'"):
        adapt.create(name, network(name), preset="cifar")
    with pytest.raises(ValueError, match=f"{name} has no learning_rate; it has"):
        adapt.create(name, network(name), learning_rate=1)


def test_steps(name: str) -> None:
    """Two steps on a batch are two batches; the last logits are returned."""
    if "steps" not in constants(name):
        with pytest.raises(ValueError, match="has no steps"):
            adapt.create(name, network(name), steps=2)
        return
    net = network(name)
    once, twice = create(name, net), create(name, net, steps=2)
    x = small.images()
    once(x)
    assert torch.equal(once(x), twice(x))
    assert same(weights(once), weights(twice))
    with pytest.raises(ValueError, match="steps must"):
        create(name, net, steps=0)
