"""MEMO and SHOT-IM against plain loops, and where they differ from the other methods."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import small_networks as small
import torch
from small_networks import exact_images as images
from torch import Tensor, nn

from tttlib import adapt
from tttlib.adapt.common.mixed_batch_norm import Mixed, use_mixed_statistics
from tttlib.adapt.memo import marginal_entropy

NEAR = {"atol": 1e-12, "rtol": 0.0}


def shifts(x: Tensor) -> Tensor:
    """N views of N copies of an image."""
    return torch.stack([view.roll(n, -1) * (1 - 0.1 * n) for n, view in enumerate(x)])


def memo(net: nn.Module | None = None, **overrides: Any) -> adapt.Adapter:
    net = small.convolutional() if net is None else net
    return adapt.create("memo", net, **{"lr": 0.05, "n_views": 4, "augment": shifts, **overrides})


def mixed(net: nn.Module, x: Tensor, share: float) -> Tensor:
    """The logits of a copy whose layers get their statistics by hand; the batch's are constants."""
    net = copy.copy(net)
    after = torch.relu(by_hand(net.conv1(x), net.bn1, share))
    after = torch.relu(by_hand(net.conv2(after), net.bn2, share))
    return net.fc(after.mean((2, 3)))


def by_hand(x: Tensor, layer: Any, share: float) -> Tensor:
    still = x.detach()
    mean = (1 - share) * layer.running_mean + share * still.mean((0, 2, 3))
    var = (1 - share) * layer.running_var + share * still.var((0, 2, 3), correction=1)
    y = (x - mean.view(1, -1, 1, 1)) / (var.view(1, -1, 1, 1) + layer.eps).sqrt()
    return y * layer.weight.view(1, -1, 1, 1) + layer.bias.view(1, -1, 1, 1)


# -- MEMO ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", ["released", "collection"])
def test_memo_equals_the_loop(variant: str) -> None:
    adapter, x = memo(variant=variant), images(3)
    share, lr = (1 / 17, 0.05) if variant == "released" else (0.1, 0.05 * 1.9)
    for image, found in zip(x.split(1), adapter(x), strict=True):
        net = small.convolutional()
        z = mixed(net, shifts(image.expand(4, -1, -1, -1)), share)
        p = z.softmax(1).mean(0)
        loss = -(p * p.log()).sum()
        grads = torch.autograd.grad(loss, list(net.parameters()), materialize_grads=True)
        with torch.no_grad():
            for parameter, g in zip(net.parameters(), grads, strict=True):
                parameter -= lr * g
            torch.testing.assert_close(found, mixed(net, image, share)[0], **NEAR)
    assert adapter.diagnostics["loss"].shape == (3,)
    assert adapter.diagnostics["loss"][-1].item() == pytest.approx(loss.item(), rel=1e-12)


def test_memo_keeps_nothing_from_image_to_image() -> None:
    adapter = memo(optimizer="adam")
    before = adapter.state_dict()
    x = images(4)
    together = adapter(x)
    apart = torch.cat([adapter(image) for image in x.flip(0).split(1)]).flip(0)
    assert torch.equal(together, apart)
    after = adapter.state_dict()
    assert small.same(after["networks"]["model"], before["networks"]["model"])
    assert not torch.equal(together, adapter.predict(x))


def test_memo_goes_back_even_if_a_view_fails() -> None:
    def broken(x: Tensor) -> Tensor:
        raise RuntimeError("no view")

    adapter = memo(augment=broken)
    before = small.weights(adapter)
    with pytest.raises(RuntimeError, match="no view"):
        adapter(images(2))
    assert small.same(small.weights(adapter), before)


def test_marginal_entropy_by_hand() -> None:
    p = torch.tensor([[0.9, 0.1], [0.3, 0.7]])
    expected = -0.6 * math.log(0.6) - 0.4 * math.log(0.4)
    assert marginal_entropy(p.log()).item() == pytest.approx(expected)
    extreme = torch.tensor([[0.0, -1e30], [0.0, -1e30]], requires_grad=True)
    entropy = marginal_entropy(extreme)
    (g,) = torch.autograd.grad(entropy, extreme)
    assert entropy == 0 and g.isfinite().all()


def test_mixed_layers_take_the_source_statistics_for_one_value() -> None:
    source = nn.BatchNorm1d(4).eval()
    source.running_mean.fill_(2.0)
    layer, one = copy.deepcopy(source), torch.randn(1, 4)
    use_mixed_statistics(layer, 0.5, Mixed)
    assert torch.equal(layer(one), source(one))
    two = torch.tensor([[0.0] * 4, [4.0] * 4])  # mean 2, unbiased variance 8
    expected = (two - 2) / math.sqrt(0.5 * 1 + 0.5 * 8 + source.eps)
    torch.testing.assert_close(layer(two), expected)
    assert torch.equal(layer.running_mean, source.running_mean)


def test_memo_trains_everything_that_the_logits_depend_on() -> None:
    adapter = memo()
    assert list(adapter.trained) == [n for n, _ in adapter.model.named_parameters()]
    transformer = memo(small.autoencoder())
    roots = {name.split(".")[0] for name in transformer.trained}
    assert {"cls_token", "patch_embed", "blocks", "classifier_pred"} <= roots
    assert not {name for name in roots if "pos_embed" in name or name.startswith("decoder")}
    assert "mask_token" not in roots
    assert transformer(small.images(2)).isfinite().all()


def test_constants_of_memo() -> None:
    presets = adapt.METHODS["memo"].presets
    assert [presets[p].lr for p in adapt.PRESETS] == [5e-3, 5e-3, 2.5e-4]
    assert [presets[p].n_views for p in adapt.PRESETS] == [32, 32, 64]
    assert [presets[p].crop for p in adapt.PRESETS] == ["shift", "shift", "zoom"]
    assert {(c.optimizer, c.momentum, c.bn_alpha) for c in presets.values()} == {("sgd", 0, 1 / 17)}
    later = adapt.METHODS["memo"].settings(None, {"variant": "collection", "momentum": 0.5})
    assert (later.momentum, later.nesterov, later.bn_alpha) == (0.5, True, 0.1)
    for wrong in ({"n_views": 0}, {"bn_alpha": 2}, {"crop": "none"}, {"variant": "paper"}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            memo(**wrong)


# -- SHOT-IM ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("momentum", "k"), [(0.0, 0.0), (0.9, 0.2)])
def test_shot_equals_the_loop(momentum: float, k: float) -> None:
    how = {"lr": 0.1, "momentum": momentum, "bn_momentum": k, "weight_decay": 0.01}
    adapter = adapt.create("shot", small.convolutional(), **how)
    net = small.convolutional()
    norms = [net.bn1, net.bn2]
    trained = [p for layer in norms for p in layer.parameters()]
    optimizer = torch.optim.SGD(
        trained, lr=0.1, momentum=momentum, nesterov=momentum > 0, weight_decay=0.01
    )
    for seed in range(3):
        x = images(6, seed)
        for layer in norms:
            layer.train()
            layer.momentum = k
        p = net(x).softmax(1)
        net.eval()
        mean = p.mean(0)
        loss = -(p * (p + 1e-10).log()).sum(1).mean() + (mean * (mean + 1e-10).log()).sum()
        for parameter, g in zip(trained, torch.autograd.grad(loss, trained), strict=True):
            parameter.grad = g
        optimizer.step()
        torch.testing.assert_close(adapter(x), net(x).detach(), **NEAR)
        assert adapter.diagnostics["loss"].item() == pytest.approx(loss.item(), rel=1e-12)
        assert torch.equal(adapter.predict(x), adapter.predict(x))
    moved = adapter.model.get_buffer("bn1.running_mean")
    torch.testing.assert_close(moved, net.bn1.running_mean, **NEAR)
    assert torch.equal(moved, small.convolutional().bn1.running_mean) == (k == 0)


def test_for_one_image_the_two_terms_of_shot_cancel() -> None:
    adapter = adapt.create("shot", small.convolutional(), lr=0.1, weight_decay=0.0)
    before = small.parameters(adapter)
    adapter(images(1))
    assert abs(adapter.diagnostics["loss"].item()) < 1e-15
    for name, value in small.parameters(adapter).items():
        torch.testing.assert_close(value, before[name], **NEAR)


def test_shot_needs_batch_norm() -> None:
    with pytest.raises(ValueError, match="shot trains scale and shift of BatchNorm layers"):
        adapt.create("shot", small.autoencoder())
    flat = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(192), nn.Linear(192, 5))
    adapter = adapt.create("shot", flat, lr=0.01)
    assert adapter(small.images(size=8)).isfinite().all()
    assert adapter(small.images(1, size=8)).isfinite().all()  # one value a channel


def test_constants_of_shot() -> None:
    config = adapt.METHODS["shot"].presets["cifar10-c"]
    assert (config.lr, config.momentum, config.weight_decay, config.bn_momentum) == (
        *(1e-3, 0.0),
        *(1e-4, 0.0),
    )
    for wrong in ({"momentum": -1}, {"bn_momentum": 1.5}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            adapt.create("shot", small.wide_resnet(), **wrong)
