"""Where features end and the last linear layer begins, in networks of many kinds."""

from __future__ import annotations

from typing import Any

import pytest
import small_networks as small
import timm
import torch
from torch import Tensor, nn

from tttlib import adapt
from tttlib.adapt.common.last_layer import LastLayer
from tttlib.models import zoo

SIZE = 32


def timms(name: str, **sizes: Any) -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model(name, num_classes=5, **sizes).eval()


def wrapped() -> nn.Module:
    half = (0.5, 0.5, 0.5)
    return zoo.wrap(timms("resnet18"), mean=half, std=half)


NETWORKS: dict[str, tuple[Any, str]] = {
    "WRN": (small.wide_resnet, "fc"),
    "ResNeXt": (
        lambda: zoo.create("resnext-29", num_classes=5, depth=11, base_width=8),
        "classifier",
    ),
    "ResNet": (lambda: zoo.create("resnet-50", num_classes=5, layers=(1, 1, 1, 1)), "fc"),
    "masked autoencoder": (lambda: small.autoencoder(size=SIZE), "classifier_pred"),
    "masked autoencoder, linear": (lambda: small.autoencoder(0, "linear", size=SIZE), "head"),
    "rotation": (small.rotation_net, "fc"),
    "timm ResNet": (lambda: timms("resnet18"), "fc"),
    "timm ViT": (
        lambda: timms(
            "vit_tiny_patch16_224", img_size=SIZE, patch_size=8, depth=2, embed_dim=12, num_heads=2
        ),
        "head",
    ),
    "timm ConvNeXt": (lambda: timms("convnext_atto", depths=(1, 1, 1, 1)), "head.fc"),
    "wrapped": (wrapped, "network.fc"),
}


@pytest.mark.parametrize("kind", NETWORKS)
def test_features_and_layer_make_the_logits(kind: str) -> None:
    make, name = NETWORKS[kind]
    net, x = make().eval(), small.images(4, size=SIZE)
    last = LastLayer(net, "neo")
    assert last.name == name
    with torch.no_grad():
        features, logits = last.through(net, x)
        assert features.shape == (4, last.of(net).in_features)
        assert torch.equal(logits, net(x))
        torch.testing.assert_close(last.of(net)(features), logits)
        _, doubled = last.through(net, x, lambda f, z: 2 * z)
        torch.testing.assert_close(doubled, 2 * logits)
    assert adapt.create("neo", net)(x).shape == (4, 5)


class Chosen(nn.Module):
    """Answers for some classes only, from a layer in half precision."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = small.wide_resnet().half()

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)[:, :3]


def test_what_follows_the_layer_stays() -> None:
    for method in ("lame", "t3a", "neo"):
        logits = adapt.create(method, Chosen())(small.images())
        assert logits.shape == (6, 3) and logits.dtype == torch.float32


class TwoHeads(nn.Module):
    """The mean of two classifiers, as a distilled transformer's."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Linear(3, 5), nn.Linear(3, 5)

    def forward(self, x: Tensor) -> Tensor:
        return (self.one(x.amax((2, 3))) + self.other(x.mean((2, 3)))) / 2


class Gate(nn.Module):
    """A linear layer inside, a convolution as classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.classifier = nn.Linear(3, 3), nn.Conv2d(3, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.gate(x.mean((2, 3))).sigmoid()[:, :, None, None]
        return self.classifier(x.mean((2, 3), keepdim=True) * gate)[:, :, 0, 0]


@pytest.mark.parametrize("method", ["lame", "t3a", "neo", "adacontrast"])
def test_networks_without_a_last_linear_layer_are_refused(method: str) -> None:
    with pytest.raises(ValueError, match=f"^{method} works on the features .* no linear layer"):
        adapt.create(method, nn.Conv2d(3, 5, 1))
    for net, name in ((TwoHeads(), "other"), (Gate(), "gate")):
        adapter = adapt.create(method, net)
        match = f"^{method} takes the last linear layer, {name}, .* depend on something else"
        with pytest.raises(ValueError, match=match):
            adapter(small.images())
    tokens = nn.Sequential(nn.Flatten(2), nn.Linear(256, 5), nn.AdaptiveAvgPool2d((1, 5)))
    adapter = adapt.create(method, nn.Sequential(tokens, nn.Flatten()))
    with pytest.raises(ValueError, match="not with features"):
        adapter(small.images())


@pytest.mark.parametrize("name", ["adacontrast", "lame", "t3a", "neo"])
def test_a_network_that_answers_with_some_of_its_outputs(name: str) -> None:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1)]
    body = nn.Sequential(*layers, nn.Flatten(), nn.Linear(8, 9))
    how = {"mean": (0, 0, 0), "std": (1, 1, 1), "outputs": [7, 1, 2, 5, 4]}
    adapter = adapt.create(name, zoo.wrap(body, **how))
    assert all(adapter(small.images(seed=t)).shape == (6, 5) for t in range(2))
