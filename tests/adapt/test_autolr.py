"""AutoLR at test time: rates against a plain loop, the order of the changes, the rule's parts."""

from __future__ import annotations

import copy

import pytest
import torch
from small_networks import Different, batch_statistics, convolutional
from small_networks import exact_images as images
from small_networks import tiny_autoencoder as autoencoder

from tttlib import adapt
from tttlib.adapt.autolr import evenly, layer_of, mended, sortedness


def test_sortedness() -> None:
    assert sortedness([1, 2, 3, 4]) == 1
    assert sortedness([4, 3, 2, 1]) == 0
    assert sortedness([2, 1, 3, 4]) == 1 - 2 * 2 / 16
    assert sortedness([]) == sortedness([3]) == sortedness([1, 1]) == 1


def test_desired_changes_ascend() -> None:
    assert evenly([1.0, 10.0, 4.0]) == pytest.approx([3.0, 3.5, 4.0])
    assert evenly([3.0, 1.0, 2.0]) == [1.0, 2.0, 3.0]  # 3 min would exceed 0.4 max
    assert mended([5.0, 4.0, 6.0, 2.0, 9.0]) == [2.25, 4.0, 6.0, 7.75, 9.0]  # gap 7/4
    for change in ([5.0, 4.0, 6.0, 2.0, 9.0], [9.0, 1.0, 0.5, 3.0], [2.0], [1.0, 1.0]):
        wanted = mended(change)
        assert wanted == sorted(wanted) and min(wanted) > 0
        assert wanted[len(change) // 2] == change[len(change) // 2]  # the middle stays
    assert mended([1.0, 2.0, 3.0]) == [1.0, 2.0, 3.0]


def test_layers() -> None:
    assert layer_of("block1.layer.0.bn1.weight") == "block1.layer.0"
    assert layer_of("layer2.3.downsample.0.weight") == "layer2.3"
    assert layer_of("patch_embed.proj.bias") == "patch_embed.proj"
    adapter = adapt.create("autolr", convolutional())
    assert adapter.layers == ("conv1", "bn1", "conv2", "bn2")
    layers = adapt.create("autolr", autoencoder()).layers
    assert layers[:2] == ("patch_embed.proj", "blocks.0")


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("per_weight", [False, True])
def test_equals_the_loop(optimizer: str, per_weight: bool) -> None:
    """A trial is an update, undone when the changes do not ascend."""
    source, augment = convolutional(), Different()
    how = {"lr": 0.01, "margin": None, "optimizer": optimizer, "per_weight": per_weight}
    adapter = adapt.create("autolr", source, augment=Different(), **how)
    model = batch_statistics(source)
    layers = [model.conv1, model.bn1, model.conv2, model.bn2]
    groups = [{"params": list(layer.parameters()), "lr": 0.01} for layer in layers]
    if optimizer == "adam":
        torch_optimizer: torch.optim.Optimizer = torch.optim.Adam(groups)
    else:
        torch_optimizer = torch.optim.SGD(groups, momentum=0.9, nesterov=True, lr=0.01)
    adjusted = 0
    for t in range(5):
        x = images(6, t)
        z = model(x)
        h = -(z.softmax(1) * z.log_softmax(1)).sum(1)
        reliable = h < 0.4 * torch.tensor(4.0).log()
        loss = h[reliable].mean() if reliable.any() else 0.0
        z_view = model(augment(x))
        loss = loss - 0.01 * 4 * (z.softmax(1) * z_view.log_softmax(1)).sum(1).mean()
        torch_optimizer.zero_grad()
        loss.backward()
        before = {n: p.detach().clone() for n, p in model.named_parameters()}
        state = copy.deepcopy(torch_optimizer.state_dict()["state"])
        desired = None
        for _ in range(10):
            _restore(model, before, torch_optimizer, state)
            torch_optimizer.step()
            change = []
            for layer in layers:
                name = next(n for n, m in model.named_modules() if m is layer)
                squares = sum(
                    float((p.detach() - before[f"{name}.{n}"]).square().sum())
                    for n, p in layer.named_parameters()
                )
                count = sum(p.numel() for p in layer.parameters()) if per_weight else 1
                change.append(squares**0.5 / count)
            if sortedness(change) >= 0.94:
                break
            adjusted += 1
            if desired is None:
                desired = evenly(change) if t == 0 else mended(change)
            groups = torch_optimizer.param_groups
            for group, wanted, was in zip(groups, desired, change, strict=True):
                group["lr"] = min(max(group["lr"] * wanted / was, 1e-4), 1.0)
        torch.testing.assert_close(adapter(x), z.detach(), rtol=1e-7, atol=1e-8)
        rates = torch.tensor([group["lr"] for group in torch_optimizer.param_groups])
        torch.testing.assert_close(adapter.diagnostics["rates"], rates, rtol=1e-5, atol=0)
        ours = dict(adapter.model.named_parameters())
        for name, parameter in model.named_parameters():
            if name != "conv2.bias":  # before BatchNorm: its gradient is noise
                torch.testing.assert_close(ours[name].data, parameter.data, rtol=0, atol=1e-8)
    assert adjusted


def _restore(
    model: torch.nn.Module, before: dict, optimizer: torch.optim.Optimizer, state: dict
) -> None:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(before[name])
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": copy.deepcopy(state), "param_groups": groups})


def test_deeper_layers_change_more() -> None:
    adapter = adapt.create("autolr", convolutional(), per_weight=True, sorted_enough=1.0)
    for t in range(5):
        adapter(images(6, t))
        change = adapter.diagnostics["change"]
        assert (change.diff() >= -1e-12).all()
        assert adapter.diagnostics["rates"].min() >= adapter.config.lr / 100 * (1 - 1e-6)
        assert adapter.diagnostics["rates"].max() <= adapter.config.lr * 100 * (1 + 1e-6)


def test_nothing_to_learn_keeps_the_rates() -> None:
    adapter = adapt.create("autolr", convolutional(), margin=-1.0, consistency=0)
    before = [p.detach().clone() for p in adapter.parameters]
    adapter(images(4))
    assert adapter.diagnostics["rates"].tolist() == pytest.approx([5e-4] * 4)
    assert all(torch.equal(p, b) for p, b in zip(adapter.parameters, before, strict=True))
