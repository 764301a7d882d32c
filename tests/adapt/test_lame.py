"""LAME against its equations in a plain loop, and where similarity has no meaning."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from small_networks import convolutional
from small_networks import exact_images as images
from torch import Tensor

from tttlib import adapt
from tttlib.adapt.lame import agreement


def plainly(f: Tensor, z: Tensor, affinity: str, k: int, symmetric: bool) -> Tensor:
    b = len(f)
    phi = f / f.norm(dim=1, keepdim=True)
    d = [[float((phi[i] - phi[j]).norm()) for j in range(b)] for i in range(b)]
    w = f.new_zeros(b, b)
    s = sum(sorted(d[i])[min(k, b) - 1] for i in range(b)) / b
    for i in range(b):
        near = sorted(range(b), key=d[i].__getitem__)[1 : k + 1]
        for j in range(b):
            if affinity == "rbf":
                w[i, j] = math.exp(-(d[i][j] ** 2) / (2 * s**2))
            elif affinity == "knn":
                w[i, j] = j in near
            else:
                w[i, j] = phi[i] @ phi[j]
    if symmetric:
        w = (w + w.T) / 2
    u = -(z.softmax(1) + 1e-10).log()
    y, old = (-u).softmax(1), math.inf
    for i in range(100):
        a = w @ y
        y = (a - u).softmax(1)
        energy = float((u * y - a * y + y * y.log()).sum())
        if i > 1 and abs(energy - old) <= 1e-8 * abs(old):
            break
        old = energy
    return y


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("affinity", ["rbf", "knn", "linear"])
@pytest.mark.parametrize("number", [2, 3, 9])
def test_equals_the_loop(affinity: Any, symmetric: bool, number: int) -> None:
    net, x = convolutional(), images(number)
    adapter = adapt.create("lame", net, affinity=affinity, neighbours=3, symmetric=symmetric)
    with torch.no_grad():
        expected = plainly(net.features(x), net(x), affinity, 3, symmetric)
    answer = adapter(x)
    torch.testing.assert_close(answer.softmax(1), expected, atol=1e-9, rtol=0)
    assert torch.equal(answer, adapter(x))  # a batch is all that counts


@pytest.mark.parametrize("affinity", ["rbf", "knn", "linear"])
def test_a_batch_without_neighbours_keeps_the_sources_answer(affinity: Any) -> None:
    net, x = convolutional(), images(4)
    adapter = adapt.create("lame", net, affinity=affinity)
    source = net(x[:1]).softmax(1)
    torch.testing.assert_close(adapter(x[:1]).softmax(1), source, atol=1e-9, rtol=0)
    if affinity == "rbf":
        equal = adapter(x[:1].expand(4, -1, -1, -1)).softmax(1)
        torch.testing.assert_close(equal, source.expand(4, -1), atol=1e-9, rtol=0)


def test_an_image_that_is_not_finite_spoils_no_other() -> None:
    net, x = convolutional(), images(4)
    adapter = adapt.create("lame", net)
    adapter(x)
    overflow = torch.tensor([1, 1.7e308, 1, 1], dtype=torch.float64).view(4, 1, 1, 1)
    with adapter.model.register_forward_pre_hook(lambda module, inputs: inputs[0] * overflow):
        answer = adapter(x)
    assert not answer[1].isfinite().any()
    others = [0, 2, 3]
    source = net(x[others]).softmax(1)
    torch.testing.assert_close(answer[others].softmax(1), source, atol=1e-9, rtol=0)


def test_two_alike_are_answered_alike() -> None:
    """By hand: K = ones, so that A is the sum of both, and Y its own fixed point."""
    u = -torch.tensor([[0.9, 0.1], [0.4, 0.6]], dtype=torch.float64).log()
    y, made = agreement(u, torch.ones(2, 2, dtype=torch.float64))
    assert 3 <= int(made) <= 100 and y.argmax(1).tolist() == [0, 0]
    torch.testing.assert_close(y, (y.sum(0) - u).softmax(1), atol=1e-3, rtol=0)
    same, made = agreement(u, torch.zeros(2, 2, dtype=torch.float64))
    assert torch.allclose(same, (-u).exp()) and int(made) == 3
