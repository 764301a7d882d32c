"""The optimisers equal PyTorch's, and pass over gradients that are not finite."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from tttlib.adapt.common import optimizers


def tensors(seed: int) -> list[Tensor]:
    random = torch.Generator().manual_seed(seed)
    shapes = ((4, 3, 3, 3), (4,), (4,), (6, 4))
    return [torch.randn(s, generator=random, dtype=torch.float64) for s in shapes]


def config(optimizer: str, **values: object) -> SimpleNamespace:
    how = {"lr": 0.01, "betas": (0.9, 0.999), "momentum": 0.9, "nesterov": True}
    return SimpleNamespace(**{**how, "weight_decay": 0.0, "optimizer": optimizer, **values})


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize(
    ("theirs", "values"),
    [
        (torch.optim.Adam, {"betas": (0.9, 0.999)}),
        (torch.optim.Adam, {"betas": (0.0, 0.9)}),
        (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
        (torch.optim.SGD, {"momentum": 0.9, "nesterov": False}),
        (torch.optim.SGD, {"momentum": 0.0, "nesterov": False}),
    ],
)
def test_equal_to_pytorchs(theirs: Callable, values: dict, weight_decay: float) -> None:
    ours, other = tensors(0), [p.requires_grad_() for p in tensors(0)]
    how = {"weight_decay": weight_decay, **values}
    optimizer = optimizers.make(ours, config(theirs.__name__.lower(), **how))
    reference = theirs(other, 0.01, **how)
    for t in range(1, 6):
        optimizer.step(tensors(t))
        for p, g in zip(other, tensors(t), strict=True):
            p.grad = g
        reference.step()
        for a, b in zip(ours, other, strict=True):
            torch.testing.assert_close(a, b.detach(), atol=1e-14, rtol=0)


@pytest.mark.parametrize("name", ["adam", "sgd", "lars", "prodigy", "adafactor"])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("first", [True, False])
def test_a_gradient_that_is_not_finite_changes_nothing(name: str, bad: float, first: bool) -> None:
    one, other = tensors(0), tensors(0)
    with_bad, without = (optimizers.make(p, config(name)) for p in (one, other))
    spoilt = tensors(9)
    spoilt[1][2] = bad
    for t in range(1, 5):
        if t == (1 if first else 3):
            with_bad.step(spoilt)
        with_bad.step(tensors(t))
        without.step(tensors(t))
    assert all(map(torch.equal, one, other)) and all(p.isfinite().all() for p in one)


def test_lars_is_that_of_mae() -> None:
    """q = 0.001 |theta| / |g| for tensors with two or more axes, 1 for the others."""
    ours, m = tensors(0), [torch.zeros_like(p) for p in tensors(0)]
    expected = tensors(0)
    optimizer = optimizers.make(ours, config("lars", lr=0.5))
    for t in range(1, 4):
        optimizer.step(tensors(t))
        for p, g, buffer in zip(expected, tensors(t), m, strict=True):
            q = 1e-3 * p.norm() / g.norm() if p.ndim > 1 else 1.0
            buffer.mul_(0.9).add_(q * g)
            p.sub_(0.5 * buffer)
        for a, b in zip(ours, expected, strict=True):
            torch.testing.assert_close(a, b, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", ["adam", "sgd", "lars", "prodigy", "adafactor"])
def test_a_step_that_is_not_wanted_changes_nothing(name: str) -> None:
    """Nor does it count: momentum does not move anything, and Adam's corrections stay."""
    one, other = tensors(0), tensors(0)
    asked, without = (optimizers.make(p, config(name)) for p in (one, other))
    for t in range(1, 4):
        asked.step(tensors(t), torch.tensor(True))
        asked.step(tensors(9), torch.tensor(False))
        without.step(tensors(t))
    assert all(map(torch.equal, one, other))
