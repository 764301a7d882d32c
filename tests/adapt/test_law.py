"""LAW: weights of the tensors, and the gradients that the released code leaves behind."""

from __future__ import annotations

from typing import Any

import pytest
import small_networks as small
import torch
from torch import Tensor
from torch.nn import functional as F

from tttlib import adapt


def law(**overrides: Any) -> adapt.Adapter:
    return adapt.create("law", small.Golden(), augment=small.flip, **overrides)


def plain(
    batches: int, *, stale: bool, tau: float = 1.0, weight_decay: float = 0.0
) -> list[Tensor]:
    """LAW as its code does it: `backward` into gradients that are cleared, or not, first."""
    net = law().model
    names = law().trained
    named = [dict(net.named_parameters())[n].requires_grad_() for n in names]
    fisher = [torch.zeros_like(p) for p in named]
    for t in range(batches):
        x = small.golden_batch(t)
        z, view = net(x), net(x.flip(-1))
        if not stale:
            net.zero_grad()
        F.cross_entropy(z, z.argmax(1)).backward(retain_graph=True)
        for f, p in zip(fisher, named, strict=True):
            f += p.grad**2
        v = torch.stack([f.mean().sqrt() for f in fisher])
        w = ((v - v.min()) / (v.max() - v.min() + 1e-8)) ** tau
        groups = [{"params": [p], "lr": 1e-3 * lr.item()} for p, lr in zip(named, w, strict=True)]
        adam = torch.optim.Adam(groups, weight_decay=weight_decay)
        net.zero_grad()
        p, q = z.log_softmax(1), view.log_softmax(1)
        entropy = -(p.exp() * p).sum(1).mean()
        (entropy - 0.01 * 5 * (p.exp() * q).sum(1).mean()).backward()
        adam.step()
    return [p.detach() for p in named]


@pytest.mark.parametrize("stale", [True, False])
@pytest.mark.parametrize("weight_decay", [0.0, 5e-4])
def test_equals_the_plain_form(stale: bool, weight_decay: float) -> None:
    adapter = law(tau=0.6, stale_grad=stale, weight_decay=weight_decay)
    for t in range(4):
        adapter(small.golden_batch(t))
    expected = plain(4, stale=stale, tau=0.6, weight_decay=weight_decay)
    for got, value in zip(adapter.parameters, expected, strict=True):
        torch.testing.assert_close(got.detach(), value, atol=1e-12, rtol=0)


def test_variants() -> None:
    assert law().config.stale_grad and law(variant="released").config.stale_grad
    assert not law(variant="paper").config.stale_grad
    assert law(variant="paper", stale_grad=True).config.stale_grad
    released, paper = law(), law(variant="paper")
    for t in range(2):
        for adapter in (released, paper):
            adapter(small.golden_batch(t))
        rates = released.diagnostics["lr"], paper.diagnostics["lr"]
        assert torch.equal(*rates) == (t == 0)
        assert rates[0].min() == 0 and rates[0].max().item() == pytest.approx(1e-3, rel=1e-5)
