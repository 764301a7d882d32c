"""SAR against a plain loop, its momentum and its recoveries; which norms it trains."""

from __future__ import annotations

from typing import Any

import pytest
import small_networks as small
import torch
from torch import Tensor, nn

from tttlib import adapt
from tttlib.adapt.common import parameters
from tttlib.adapt.common.losses import entropy
from tttlib.models import zoo

MARGIN = 0.6


def plain(batches: int, *, reset_below: float) -> tuple[list[Tensor], list[Tensor], list[int]]:
    """Answers, trained tensors, and in which batches it recovered; means over no image are 0."""
    net = small.batch_statistics(small.Golden())
    trained = [p for n, p in net.named_parameters() if "bn" in n]
    source = [p.detach().clone() for p in trained]
    sgd = torch.optim.SGD(trained, lr=0.02, momentum=0.9)
    e, answers, recovered = None, [], []
    for t in range(batches):
        x = small.golden_batch(t)
        z = net(x)
        answers.append(z.detach())
        h = entropy(z)
        rows = (h < MARGIN).nonzero().flatten()
        loss = h[rows].mean() if len(rows) else 0 * h.sum()
        g = torch.autograd.grad(loss, trained)
        size = sum((d**2).sum() for d in g).sqrt() + 1e-12
        before = [p.detach().clone() for p in trained]
        with torch.no_grad():
            for p, d in zip(trained, g, strict=True):
                p.add_(d / size, alpha=0.05)
        h = entropy(net(x))
        rows = rows[h[rows] < MARGIN]
        loss = h[rows].mean() if len(rows) else 0 * h.sum()
        sgd.zero_grad()
        loss.backward()
        if len(rows):
            e = loss.item() if e is None else 0.9 * e + 0.1 * loss.item()
        with torch.no_grad():
            for p, old in zip(trained, before, strict=True):
                p.copy_(old)
        sgd.step()
        if e is not None and e < reset_below:
            e = None
            recovered.append(t)
            with torch.no_grad():
                for p, old in zip(trained, source, strict=True):
                    p.copy_(old)
    return answers, [p.detach() for p in trained], recovered


def create(**overrides: Any) -> adapt.Adapter:
    return adapt.create("sar", small.Golden(), **{"lr": 0.02, "margin": MARGIN, **overrides})


@pytest.mark.parametrize(("reset_below", "times"), [(0.0, 0), (0.49, 2), (9.0, 5)])
def test_equal_to_the_plain_form(reset_below: float, times: int) -> None:
    adapter = create(reset_below=reset_below)
    answers, trained, recovered = plain(8, reset_below=reset_below)
    for t, expected in enumerate(answers):
        got = adapter(small.golden_batch(t))
        torch.testing.assert_close(got, expected, atol=1e-11, rtol=0)
        assert adapter.diagnostics["recoveries"] == sum(batch <= t for batch in recovered)
    assert len(recovered) == times
    for got, expected in zip(adapter.parameters, trained, strict=True):
        torch.testing.assert_close(got.detach(), expected, atol=1e-11, rtol=0)


def test_without_a_reliable_image_momentum_moves_on() -> None:
    adapter = create(reset_below=0.0)
    adapter(small.golden_batch(0))
    before, e = [p.detach().clone() for p in adapter.parameters], adapter.memory["average"].clone()
    buffers = [b.clone() for b in adapter.optimizer.buffers]
    object.__setattr__(adapter.config, "margin", 0.0)
    adapter(small.golden_batch(1))
    assert adapter.diagnostics["reliable"] == 0 and torch.equal(adapter.memory["average"], e)
    for p, old, b in zip(adapter.parameters, before, buffers, strict=True):
        torch.testing.assert_close(p.detach(), old - 0.02 * 0.9 * b, atol=1e-12, rtol=0)
        assert not torch.equal(p.detach(), old)


def test_a_recovery_keeps_the_momentum_and_a_reset_does_not() -> None:
    adapter = create(reset_below=9.0)
    start = small.weights(adapter)
    adapter(small.golden_batch(0))
    assert small.same(small.weights(adapter), start) and adapter.memory["average"].isnan()
    assert all(b.abs().max() > 0 for b in adapter.optimizer.buffers)
    adapter.reset()
    assert all(b.abs().max() == 0 for b in adapter.optimizer.buffers)
    assert adapter.memory["recoveries"] == 0


def test_there_is_no_average_before_an_image_was_reliable() -> None:
    adapter = create(margin=0.0, reset_below=9.0)
    adapter(small.golden_batch(0))
    assert adapter.memory["average"].isnan() and adapter.diagnostics["recoveries"] == 0


def test_norms_before_the_last_stage() -> None:
    """A rule about names, as released: it knows ResNets and timm's transformers."""
    with torch.device("meta"):
        resnet, wrn = zoo.create("resnet-50"), zoo.create("wrn-28-10")
    every, lower = parameters.norm_affine(resnet), parameters.lower_norms(resnet)
    assert set(every) - set(lower) == {n for n in every if n.startswith("layer4")} != set()
    assert parameters.lower_norms(wrn) == parameters.norm_affine(wrn)
    names = ["blocks.8.norm1", "blocks.9.norm1", "blocks.10.a", "blocks.11.a", "blocks.12.a"]
    names += ["norm", "norm.1", "block3.0", "model.norm", "fc_norm"]
    tree = nn.Module()
    for name in names:
        *path, own = name.split(".")
        at: Any = tree
        for part in path:
            if not hasattr(at, part):
                at.add_module(part, nn.LayerNorm(2) if part == "norm" else nn.Module())
            at = getattr(at, part)
        at.add_module(own, nn.LayerNorm(2))
    kept = {n.rpartition(".")[0] for n in parameters.lower_norms(tree)}
    assert kept == {"blocks.8.norm1", "blocks.12.a", "block3.0", "model.norm", "fc_norm"}


def test_a_network_whose_norms_are_all_in_the_last_stage_is_refused() -> None:
    net = nn.Sequential()
    net.add_module("layer4", nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten()))
    net.add_module("fc", nn.Linear(4, 2))
    for name in ("sar", "deyo"):
        with pytest.raises(ValueError, match="before the last stage, and this model has none"):
            adapt.create(name, net)


def test_constants_of_the_collection() -> None:
    presets = [adapt.METHODS["sar"].presets[p] for p in adapt.PRESETS]
    assert [c.lr for c in presets] == [1e-3, 1e-3, 2.5e-4]
    assert {(c.rho, c.reset_below, c.momentum, c.margin) for c in presets} == {
        (0.05, 0.2, 0.9, None)
    }
