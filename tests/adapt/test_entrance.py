"""Networks of other people: their BatchNorm layers, their answers, their precision."""

from __future__ import annotations

import copy
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import small_networks as small
import timm
import torch
from test_methods import OVERRIDES, network
from timm.layers import BatchNormAct2d
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision.ops import FrozenBatchNorm2d

from tttlib import adapt

# -- BatchNorm layers that are more than BatchNorm -------------------------------------------------


def expected(net: nn.Module, x: Tensor) -> Tensor:
    """The network's own answer with its BatchNorm layers in training mode."""
    own = copy.deepcopy(net)
    for layer in own.modules():
        if isinstance(layer, _BatchNorm):
            layer.train()
            for child in layer.children():
                child.eval()
    with torch.no_grad():
        return own(x)


FAMILIES = ("resnet14t", "efficientnet_es", "mobilenetv2_050", "regnetx_002", "mnasnet_small",
            "ghostnet_050", "lcnet_050", "repvgg_a0")  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_bn1_is_the_networks_own_training_mode(family: str) -> None:
    torch.manual_seed(0)
    net = timm.create_model(family, num_classes=7).double().eval()
    for module in net.modules():
        if isinstance(module, _BatchNorm):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            module.running_mean.normal_(0, 0.2)
    x = small.images(4, size=32).double()
    adapter = adapt.create("bn1", net)
    torch.testing.assert_close(adapter(x), expected(net, x), atol=1e-9, rtol=1e-7)
    assert not torch.allclose(adapter(x), adapt.create("source", net)(x), atol=1e-3)
    assert list(adapter.model.state_dict()) == list(net.state_dict())


@pytest.mark.parametrize("family", ["convnext_atto", "mixer_s32_224"])
def test_a_family_without_batch_norm(family: str) -> None:
    torch.manual_seed(0)
    net = timm.create_model(family, num_classes=7).eval()
    x = small.images(2, size=224 if "224" in family else 32)
    with pytest.raises(ValueError, match="bn1 replaces"):
        adapt.create("bn1", net)
    with torch.no_grad():
        torch.testing.assert_close(adapt.create("tent", net)(x), net(x))


class Squared(nn.BatchNorm2d):
    """Something of its own behind the normalisation."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).square()


class Stubborn(nn.BatchNorm2d):
    """Frozen: has its running statistics in training mode, too."""

    def train(self, mode: bool = True) -> Stubborn:
        return super().train(False)


class Renormalised(nn.BatchNorm2d):
    """Mixes both statistics while it trains, which nobody could know from outside."""

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        return y + 0.3 * self.running_mean.view(1, -1, 1, 1) if self.training else y


class ByHand(nn.BatchNorm2d):
    """Does not call what PyTorch's layer does."""

    def forward(self, x: Tensor) -> Tensor:
        mean, variance = self.running_mean, self.running_var
        if self.training:
            variance, mean = torch.var_mean(x, (0, 2, 3), correction=0)
        return F.batch_norm(x, mean, variance, self.weight, self.bias, False, 0, self.eps)


def patched() -> nn.BatchNorm2d:
    layer = nn.BatchNorm2d(4)
    own = layer.forward
    layer.forward = lambda x: own(x).tanh()  # type: ignore[method-assign]
    return layer


def hooked() -> nn.BatchNorm2d:
    layer = nn.BatchNorm2d(4)
    layer.register_forward_pre_hook(lambda module, inputs: (inputs[0] * 2,))
    layer.register_forward_hook(lambda module, inputs, output: output.relu() + 1)
    return layer


def around(layer: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    rest = (nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 5))
    net = nn.Sequential(nn.Conv2d(3, 4, 3), layer, *rest)
    if getattr(layer, "running_mean", None) is not None:
        layer.running_mean.normal_()
        nn.init.normal_(layer.weight)
    return net.eval()


@pytest.mark.parametrize(
    "make",
    [
        lambda: BatchNormAct2d(4, act_layer=nn.SiLU, drop_layer=nn.Dropout2d),
        lambda: Squared(4),
        lambda: Squared(4, affine=False, track_running_stats=False),
        lambda: nn.SyncBatchNorm(4),
        lambda: Stubborn(4),
        hooked,
    ],
)
def test_a_layer_keeps_what_it_does_beyond_normalising(make: Callable[[], nn.Module]) -> None:
    net = around(nn.Sequential(nn.BatchNorm2d(4), make()))  # one that changes in any case
    adapter = adapt.create("bn1", net)
    torch.testing.assert_close(adapter(small.images()), expected(net, small.images()))
    learner = adapt.create("tent", net, lr=0.1)
    learner(small.images())
    moved, before = small.parameters(learner), dict(net.named_parameters())
    assert not torch.equal(moved["1.0.weight"], before["1.0.weight"])


@pytest.mark.parametrize("layer", [FrozenBatchNorm2d(4), Stubborn(4)])
def test_layers_that_are_frozen_for_good_stay_as_they_are(layer: nn.Module) -> None:
    with pytest.raises(ValueError, match="bn1 replaces"):
        adapt.create("bn1", around(layer))


@pytest.mark.parametrize("make", [lambda: Renormalised(4), lambda: ByHand(4), patched])
def test_a_layer_that_cannot_be_followed_is_refused_by_name(make: Callable[[], nn.Module]) -> None:
    layer = make()
    for name in ("bn1", "tent", "palm"):
        with pytest.raises(ValueError, match=f"1 is a {type(layer).__name__}"):
            adapt.create(name, around(layer))


# -- answers ---------------------------------------------------------------------------------------


class Answering(nn.Module):
    def __init__(self, answer: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.net, self.answer = small.wide_resnet(), answer

    def forward(self, pixel_values: Tensor) -> Any:
        return self.answer(self.net(pixel_values))


@pytest.mark.parametrize(
    "answer",
    [lambda z: {"loss": None, "logits": z}, lambda z: SimpleNamespace(logits=z), lambda z: z],
)
def test_logits_are_found(answer: Callable[[Tensor], Any]) -> None:
    for name in ("source", "cotta", "palm"):
        constants = {"n_augmentations": 2, "confidence": 2.0} if name == "cotta" else {}
        ours = adapt.create(name, Answering(answer), **constants)
        plain = adapt.create(name, small.wide_resnet(), **constants)
        for t in range(2):
            assert torch.equal(ours(small.images(seed=t)), plain(small.images(seed=t)))


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda z: (z, z), "tuple"),
        (lambda z: {"out": z}, "dict"),
        (lambda z: z.argmax(1), r"int64 \[6\]"),
        (lambda z: z[:, 0], r"\[6\]"),
        (lambda z: z[:, :1], r"\[6, 1\]"),
        (lambda z: z[:, :, None, None], r"\[6, 5, 1, 1\]"),
        (lambda z: z.mean(0, keepdim=True), r"6 images with torch.float32 \[1, 5\]"),
        (lambda z: None, "NoneType"),
    ],
)
def test_other_answers_are_refused_at_the_first_call(
    answer: Callable[[Tensor], Any], says: str
) -> None:
    for name in ("source", "tent"):
        with pytest.raises(ValueError, match=says):
            adapt.create(name, Answering(answer))(small.images())


# -- wrappers and precision ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrap", [nn.DataParallel, torch.compile, lambda net: torch.compile(nn.DataParallel(net))]
)
def test_wrappers_are_left_behind(wrap: Callable[[nn.Module], Any]) -> None:
    net = small.wide_resnet()
    for name in ("bn1", "palm"):
        plain = adapt.create(name, net)
        expected = plain(small.images())
        whole, part = adapt.create(name, wrap(net)), adapt.create(name, nn.Sequential(wrap(net)))
        assert whole.trained == plain.trained
        assert part.trained == tuple(f"0.{n}" for n in plain.trained)
        assert torch.equal(whole(small.images()), expected)
        assert torch.equal(part(small.images()), expected)


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning", "ignore::DeprecationWarning")
def test_what_cannot_adapt_is_refused() -> None:
    scripted = torch.jit.trace(small.wide_resnet(), small.images())
    for net, says in (
        (scripted, "TorchScript"),
        (nn.Sequential(scripted), "TorchScript"),
        (nn.Flatten(), "no parameters"),
        (lambda x: x, "torch.nn.Module"),
    ):
        for name in ("source", "tent"):
            with pytest.raises(ValueError, match=says):
                adapt.create(name, net)  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_answers_but_does_not_learn(dtype: torch.dtype) -> None:
    net = small.wide_resnet()
    for name in ("source", "bn1"):
        both = (net, copy.deepcopy(net).to(dtype))
        full, half = (adapt.create(name, n)(small.images()) for n in both)
        assert half.dtype == torch.float32
        torch.testing.assert_close(half, full, atol=0.05, rtol=0.05)
    for name in ("tent", "cotta", "law", "palm", "surgical", "autolr", "adacontrast"):
        with pytest.raises(ValueError, match=str(dtype)):
            adapt.create(name, copy.deepcopy(net).to(dtype))


@pytest.mark.parametrize("name", adapt.NAMES)
def test_autocast_around_the_call(name: str) -> None:
    views = {"n_augmentations": 2, "confidence": 2.0}
    constants = {**OVERRIDES.get(name, {}), **({"cotta": views, "dss": views}.get(name, {}))}
    full, mixed = (adapt.create(name, network(name), **constants) for _ in range(2))
    for t in range(2):
        expected = full(small.images(seed=t))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            answer = mixed(small.images(seed=t))
    assert answer.dtype == torch.float32
    torch.testing.assert_close(answer, expected, atol=0.05, rtol=0.05)
    assert all(p.dtype == torch.float32 for p in mixed.model.parameters())
