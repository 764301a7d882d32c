"""COME's entropy by hand, its gradient, and its edges; the methods that take it."""

from __future__ import annotations

import math

import pytest
import small_networks as small
import torch

from tttlib import adapt
from tttlib.adapt.common.losses import come


def test_by_hand() -> None:
    """Evidence 1 and 3, mass 4: beliefs 1/8 and 3/8, uncertainty 1/2."""
    z = torch.tensor([[0.0, math.log(3)]], dtype=torch.float64)
    expected = -sum((q + 1e-7) * math.log(q + 1e-7) for q in (1 / 8, 3 / 8, 1 / 2))
    assert come(z, 4.0).item() == pytest.approx(expected, abs=1e-14)
    expected = -sum((q + 1e-7) * math.log(q + 1e-7) for q in (1 / 6, 3 / 6, 2 / 6))
    assert come(z).item() == pytest.approx(expected, abs=1e-14)  # K is the number of classes


def test_the_length_of_the_logits_has_no_gradient() -> None:
    z = torch.randn(5, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    z.requires_grad_()
    (g,) = torch.autograd.grad(come(z).sum(), z)
    assert g.norm() > 0.1 and (g * z).sum(1).abs().max() < 1e-14


@pytest.mark.parametrize("value", [0.0, 1e-30, 100.0, 1e4])
def test_edges_are_finite(value: float) -> None:
    """Logits of length 0, and such whose exponential float32 does not hold."""
    z = (torch.tensor([[1.0, -1.0, 0.5]]) * value).requires_grad_()
    h = come(z, 1000.0)
    (g,) = torch.autograd.grad(h.sum(), z)
    assert h.isfinite().all() and g.isfinite().all()


def test_mass() -> None:
    with pytest.raises(ValueError, match="mass must lie in"):
        adapt.create("tent", small.wide_resnet(), loss="come", mass=0.0)
    with pytest.raises(ValueError, match="loss must be one of entropy, come"):
        adapt.create("tent", small.wide_resnet(), loss="evidence")


@pytest.mark.parametrize("name", ["tent", "eata", "eta", "rdumb", "sar"])
def test_methods_that_take_it(name: str) -> None:
    """The mass matters, and nothing that is not finite comes of it."""
    wide = {} if name == "tent" else {"margin": 9.0}
    after = []
    for how in ({}, {"loss": "come"}, {"loss": "come", "mass": 1000.0}):
        adapter = adapt.create(name, small.wide_resnet(), lr=0.01, **wide, **how)
        for t in range(2):
            assert adapter(small.images(seed=t)).isfinite().all()
        after.append(torch.cat([p.detach().flatten() for p in adapter.parameters]))
    assert not torch.equal(after[0], after[1]) and not torch.equal(after[1], after[2])
