"""ROID and CMF: weights, losses and answer by hand, ensembling, and batches that teach nothing."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import small_networks as small
import torch
from small_networks import exact_images as images
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as v2

from tttlib import adapt
from tttlib.adapt.common import augmentation
from tttlib.adapt.common.weight_ensembling import likelihood_ratio, pull, scaled

BOTH = pytest.mark.parametrize("name", ["roid", "cmf"])
NEAR = {"atol": 1e-12, "rtol": 0.0}


def made(name: str, **overrides: Any) -> adapt.Adapter:
    return adapt.create(name, small.convolutional(), lr=0.01, augment=small.flip, **overrides)


def test_weights_by_hand() -> None:
    """Two classes, m = (1/2, 1/2): the nearer an answer is to m, the less diverse it is."""
    p = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]], dtype=torch.float64)
    adapter = made("roid", temperature=0.5)
    weights, kept, usable = adapter._weights(p.log())  # type: ignore[attr-defined]
    d = [1 - (a / 2 + b / 2) / (math.hypot(a, b) * math.sqrt(0.5)) for a, b in p.tolist()]
    c = [a * math.log(a) + b * math.log(b) for a, b in p.tolist()]
    d = [(x - min(d)) / (max(d) - min(d)) for x in d]
    c = [(x - min(c)) / (max(c) - min(c)) for x in c]
    assert d == pytest.approx([1, 0, d[2]]) and 0.5 < d[2] < 1
    expected = [math.exp(a * b / 0.5) if a >= sum(d) / 3 else 0 for a, b in zip(d, c, strict=True)]
    assert weights.tolist() == pytest.approx(expected) and kept.tolist() == [True, False, True]
    assert usable
    mean = 0.9 * 0.5 + 0.1 * p.mean(0)  # with all images, also the dropped one
    torch.testing.assert_close(adapter.memory["mean"], mean, **NEAR)


def test_likelihood_ratio_by_hand_and_its_clamp() -> None:
    p = torch.tensor([[0.7, 0.3], [0.995, 0.005]], dtype=torch.float64)
    logits = p.log().requires_grad_()
    ratio = likelihood_ratio(logits)
    q = [[0.7, 0.3], [0.99, 0.005]]
    expected = [-sum(v * math.log(v / (1 - v) + 1e-5) for v in row) for row in q]
    assert ratio.tolist() == pytest.approx(expected, rel=1e-12)
    (g,) = torch.autograd.grad(ratio.sum(), logits)
    rest = p[1, 1].clone().requires_grad_()  # the only one of the second row that is not clamped
    (slope,) = torch.autograd.grad(-rest * torch.log(rest / (1 - rest) + 1e-5), rest)
    assert g[1, 1].item() == pytest.approx(slope.item() * 0.005 * 0.995, rel=1e-9)


def test_the_prior_multiplies_the_logits() -> None:
    adapter = made("roid")
    x = images(5)
    raw = small.batch_statistics(small.convolutional())(x).detach()
    share = raw.softmax(1).mean(0)
    s = max(1 / 5, 1 / 4) / share.max()
    torch.testing.assert_close(adapter(x), raw * (share + s) / (1 + 4 * s), **NEAR)
    torch.testing.assert_close(adapter.diagnostics["logits"], raw, **NEAR)
    torch.testing.assert_close(made("roid", prior_correction=False)(x), raw, **NEAR)


def test_losses_are_divided_by_the_configured_batch_size() -> None:
    x = images(6)
    losses = {}
    for n in (None, 6, 12):
        adapter = made("roid", batch_size=n)
        adapter(x)
        losses[n] = adapter.diagnostics["loss"].item()
    assert losses[None] == losses[6] == pytest.approx(2 * losses[12])


def test_without_weighting_every_image_counts_one() -> None:
    adapter, x = made("roid", weighting=False, optimizer="sgd"), images(6)
    logits = adapter(x)
    net = small.batch_statistics(small.convolutional())
    z, a = net(x), net(small.flip(x))
    both = -(z.softmax(1) * a.log_softmax(1) + a.softmax(1) * z.log_softmax(1)).sum(1) / 2
    found = adapter.diagnostics
    torch.testing.assert_close(found["loss_consistency"], both.mean().detach(), **NEAR)
    torch.testing.assert_close(found["loss_likelihood"], likelihood_ratio(z).mean().detach())
    assert found["kept"] == 6 and logits.shape == (6, 4)
    alone = made("roid", weighting=False)
    alone(x[:1])
    assert alone.diagnostics["moved"]  # nothing is divided by a spread


def test_only_images_that_are_kept_are_viewed() -> None:
    seen = []

    def view(x: Tensor) -> Tensor:
        seen.append(x)
        return x.flip(-1)

    adapter = adapt.create("roid", small.convolutional(), augment=view)
    x = images(8)
    adapter(x)
    kept = int(adapter.diagnostics["kept"])
    assert 0 < kept < 8 and seen[0].shape == (kept, 3, 8, 8)
    places = [int((x == one).flatten(1).all(1).nonzero()) for one in seen[0]]
    assert places == sorted(places)
    quiet = adapt.create("roid", small.convolutional(), augment=view, consistency=False)
    quiet(x)
    assert len(seen) == 1 and quiet.diagnostics["loss_consistency"] == 0


@BOTH
def test_one_image_is_answered_and_moves_nothing_but_the_mean(name: str) -> None:
    adapter = made(name)
    adapter(images(6))
    before = adapter.state_dict()
    assert adapter(images(1, seed=3)).isfinite().all()
    assert adapter.diagnostics["loss"].isfinite()
    after = adapter.state_dict()
    assert not adapter.diagnostics["moved"]
    assert small.same(after["networks"]["model"], before["networks"]["model"])
    for part in ("means", "squares"):
        pairs = zip(after["optimizer"][part], before["optimizer"][part], strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)
    if name == "cmf":
        assert torch.equal(after["memory"]["variance"], before["memory"]["variance"])
        pairs = zip(after["memory"]["estimate"], before["memory"]["estimate"], strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)
    assert not torch.equal(after["memory"]["mean"], before["memory"]["mean"])


def test_equal_answers_are_not_usable() -> None:
    weights, kept, usable = made("roid")._weights(torch.ones(4, 4))  # type: ignore[attr-defined]
    assert not usable and kept.all() and torch.equal(weights, torch.ones(4))


def test_scaled_and_pull_are_exact_where_nothing_differs() -> None:
    equal, spread = scaled(torch.full((3,), 0.3))
    assert torch.equal(equal, torch.zeros(3)) and spread == 0
    x = [torch.randn(5)]
    before = x[0].clone()
    pull(x, [x[0].clone()], 0.3)
    assert torch.equal(x[0], before)
    pull(x, [torch.zeros(5)], torch.tensor(1.0))
    assert torch.equal(x[0], torch.zeros(5))


def test_roid_averages_with_the_source_after_the_step() -> None:
    free, held = made("roid", source_momentum=1.0), made("roid", source_momentum=0.75)
    source = small.parameters(free)
    x = images(6)
    free(x)
    held(x)
    for name in free.trained:
        expected = 0.75 * small.parameters(free)[name] + 0.25 * source[name]
        torch.testing.assert_close(small.parameters(held)[name], expected, **NEAR)
    back = made("roid", source_momentum=0.0)
    back(x)
    for name, value in small.parameters(back).items():
        torch.testing.assert_close(value, source[name], **NEAR)


@pytest.mark.parametrize("q", [0.005, 40.0, 3000.0])
def test_cmf_filters_as_its_equations_say(q: float) -> None:
    """Against the loop over numbers; with q = 3000 the noise of the process is above 1."""
    alpha, gamma = 0.9, 0.7
    adapter = made("cmf", alpha=alpha, gamma=gamma, q=q, optimizer="sgd")
    free = made("roid", source_momentum=1.0, optimizer="sgd")
    source = {n: p.double() for n, p in small.parameters(adapter).items()}
    h, v = {n: source[n].clone() for n in adapter.trained}, 0.0
    noise = q * sum(h[n].numel() for n in adapter.trained) / 38400
    for seed in range(4):
        # The same update as without a filter, from where the filter left the weights
        state = adapter.state_dict()
        state["method"] = "roid"
        state["memory"] = {"mean": state["memory"]["mean"]}
        free.load_state_dict(state)
        free(images(6, seed))
        adapter(images(6, seed))
        v = alpha**2 * v + noise
        b = (1 - noise) / (v + 1 - noise)
        b = 0.89 if b < 0.89 else b if b < 0.9999 else 1.0
        v = b * v
        assert adapter.memory["variance"].item() == pytest.approx(v, rel=1e-12)
        for place, name in enumerate(adapter.trained):
            theta = small.parameters(free)[name]
            predicted = alpha * h[name] + (1 - alpha) * source[name]
            h[name] = b * predicted + (1 - b) * theta
            torch.testing.assert_close(adapter.memory["estimate"][place], h[name], **NEAR)
            merged = gamma * theta + (1 - gamma) * h[name]
            torch.testing.assert_close(small.parameters(adapter)[name], merged, **NEAR)


@BOTH
def test_constants(name: str) -> None:
    presets = adapt.METHODS[name].presets
    assert [presets[p].lr for p in adapt.PRESETS] == [1e-3, 1e-3, 2.5e-4]
    assert [presets[p].optimizer for p in adapt.PRESETS] == ["adam", "adam", "sgd"]
    for preset in presets.values():
        assert preset.nesterov and preset.temperature == pytest.approx(1 / 3)
        assert preset.probs_momentum == 0.9 and preset.batch_size is None
    for wrong in ({"temperature": 0}, {"probs_momentum": 2}, {"batch_size": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            made(name, **wrong)


@BOTH
def test_nothing_to_train_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} trains"):
        adapt.create(name, nn.Sequential(nn.Flatten(), nn.Linear(192, 5)))


@pytest.mark.parametrize("size", [16, 17])
@pytest.mark.parametrize("seed", range(3))
def test_the_view_pads_by_reflection_and_has_no_blur_and_noise(size: int, seed: int) -> None:
    """Against the steps one by one."""
    coarse = torch.rand(3, 3, 5, 5, generator=torch.Generator().manual_seed(2))
    x = F.interpolate(coarse, (size, size), mode="bicubic").clamp(0, 1).double()
    ours, plain = (torch.Generator().manual_seed(seed) for _ in range(2))
    how: dict[str, Any] = {"blur_and_noise": False, "outside": "reflect"}
    view = augmentation.draw(size, plain)
    padded = augmentation.jittered(x, view.jitter)
    padded = v2.pad(padded, [size // 2] * 4, padding_mode="reflect")
    shift = {"angle": view.degrees, "translate": list(view.shift), "scale": view.scale}
    bilinear = InterpolationMode.BILINEAR
    expected = v2.affine(padded, **shift, shear=[0.0, 0.0], interpolation=bilinear)
    expected = v2.center_crop(expected, [size, size])
    expected = expected.flip(-1) if view.flip else expected
    found = augmentation.cotta_view(x, ours, **how)
    torch.testing.assert_close(found, expected.clamp(0, 1), atol=1e-5, rtol=0)
    assert torch.equal(ours.get_state(), plain.get_state())
    far = replace(view, degrees=15.0, shift=(2, 2), scale=0.9)
    for outside in ("edge", "reflect"):
        moved = augmentation.moved(torch.ones_like(x), far, outside=outside)
        torch.testing.assert_close(moved, torch.ones_like(x))


def test_the_default_view_draws_from_the_seed() -> None:
    def after(seed: int) -> Tensor:
        adapter = adapt.create("roid", small.wide_resnet(), lr=0.01, seed=seed)
        adapter(small.images())
        return adapter(small.images(seed=1))

    assert torch.equal(after(3), after(3)) and not torch.equal(after(3), after(4))
