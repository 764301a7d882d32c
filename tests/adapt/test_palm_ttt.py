"""PALM on the masked autoencoder: its equations in a plain loop; plain online TTT as its limit."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from small_networks import CLASSES, convolutional
from small_networks import exact_images as images
from small_networks import tiny_autoencoder as autoencoder
from torch import Tensor

from tttlib import adapt, ttt

MASKS, PATCHES = 3, 16


class Orders:
    """Patch orders by a generator of its own."""

    def __init__(self) -> None:
        self.random = torch.Generator().manual_seed(5)

    def __call__(self, x: Tensor) -> Tensor:
        return torch.rand(len(x) * MASKS, PATCHES, generator=self.random).argsort(1)


@pytest.mark.parametrize("finetune", ["encoder", "all"])
def test_fixed_rates_are_online_test_time_training(finetune: str) -> None:
    model, x, orders = autoencoder(), images(5), Orders()
    drawn = torch.stack([orders(x[:1]) for _ in range(5)])[:, None]  # [N,1,B,L]
    how = {"lr": 0.05, "finetune": finetune}
    settings = {"steps": 1, "batch_size": MASKS, "online": True, "orders": drawn, **how}
    expected = ttt.run(copy.deepcopy(model), x, **settings)
    how |= {"rates": "fixed", "masks": MASKS, "orders": Orders()}
    adapter = adapt.create("palm_ttt", model, **how)
    for n in range(5):
        logits = adapter(x[n : n + 1])
        torch.testing.assert_close(logits[0].float(), expected.logits[n, 1], rtol=0, atol=1e-5)
        loss = adapter.diagnostics["loss"].float()
        torch.testing.assert_close(loss, expected.losses[n, 0].float(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "overrides",
    [
        {},
        {"optimizer": "adam"},
        {"freeze_unselected": True},
        {"predict_first": True, "finetune": "all", "alpha": 0.9},
    ],
)
def test_equals_the_loop(overrides: dict[str, Any]) -> None:
    settings = {"optimizer": "sgd", "freeze_unselected": False, "predict_first": False,
                "finetune": "encoder", "alpha": 0.5, **overrides}  # fmt: skip
    alpha, threshold, lr = settings["alpha"], 0.02, 0.03
    source = autoencoder()
    model, orders = copy.deepcopy(source), Orders()
    how = {"lr": lr, "threshold": threshold, "temperature": 2.0, **overrides}
    adapter = adapt.create("palm_ttt", source, masks=MASKS, orders=Orders(), **how)
    names = ttt.trained_parameters(model, settings["finetune"])
    named = dict(model.named_parameters())
    e: dict[str, Tensor] = {}
    rate: dict[str, Tensor] = {}
    momenta = {name: torch.zeros_like(named[name]) for name in names}
    counts = []
    for seed in range(5):
        x = images(3, seed)
        z = model(x)
        loss_u = -(z / 2.0).log_softmax(1).mean(1).mean()
        model.zero_grad()
        loss_u.backward()
        selected = []
        for name in names:
            p = named[name]
            g = torch.zeros_like(p) if p.grad is None else p.grad
            if g.abs().sum() <= threshold:
                selected.append(name)
                s = (p.detach() * g).abs()
                e[name] = alpha * s + (1 - alpha) * e.get(name, torch.zeros_like(s))
                d = (s - e[name]).abs()
                rate[name] = ((d + 1e-8) / (e[name] + 1e-8)).mean()
        counts.append(len(selected))
        moving = selected if settings["freeze_unselected"] else list(rate)
        several = x.repeat_interleave(MASKS, 0)
        model.zero_grad()
        loss = model.reconstruction_loss(several, order=orders(x))
        loss.backward()
        with torch.no_grad():
            for name in moving:
                q = named[name].grad
                if settings["optimizer"] == "adam":
                    step = q / (q.abs() + 1e-8)
                else:
                    momenta[name] = 0.9 * momenta[name] + q
                    step = momenta[name]
                named[name] -= lr * rate[name] * step
            expected = z if settings["predict_first"] else model(x)
        torch.testing.assert_close(adapter(x), expected.detach(), rtol=1e-6, atol=1e-8)
        torch.testing.assert_close(adapter.diagnostics["loss"], loss.detach())
        assert int(adapter.diagnostics["selected"].sum()) == len(selected)
    assert min(counts) > 0 and max(counts) < len(names)


def test_the_mask_token_moves_at_the_full_rate() -> None:
    adapter = adapt.create("palm_ttt", autoencoder(), masks=MASKS)
    before = adapter.model.mask_token.detach().clone()
    adapter(images(2))
    importance = dict(zip(adapter.trained, adapter.diagnostics["importance"], strict=True))
    assert importance["mask_token"] == 1
    assert not torch.equal(adapter.model.mask_token, before)
    assert not [name for name in adapter.trained if name.startswith(("classifier", "decoder"))]


def test_nothing_selected_moves_nothing() -> None:
    model = autoencoder()
    how = {"threshold": 0, "masks": MASKS, "finetune": "encoder_no_cls_no_msk"}
    adapter = adapt.create("palm_ttt", model, **how)
    before = copy.deepcopy(adapter.model.state_dict())
    x = images(2)
    assert torch.equal(adapter(x), model(x).detach())
    assert all(torch.equal(v, before[n]) for n, v in adapter.model.state_dict().items())
    assert adapter.diagnostics["share_moving"] == 0


def test_what_it_needs() -> None:
    adapter = adapt.create("palm_ttt", autoencoder(head_type="linear"), masks=2)
    assert adapter(images(1)).shape == (1, CLASSES)
    for model in (convolutional(), autoencoder(head_type="none")):
        with pytest.raises(ValueError, match="MaskedAutoencoder with a head"):
            adapt.create("palm_ttt", model)
