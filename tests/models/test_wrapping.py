"""Anyone's network behind its own normalisation, with names that fit its outputs."""

from __future__ import annotations

import logging
import warnings
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tttlib import adapt
from tttlib.models import zoo

MEAN, STD = (0.2, 0.4, 0.6), (0.1, 0.2, 0.3)
X = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def body(outputs: int = 5) -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(8, outputs))


def scripted(net: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer versions of PyTorch say that it is old
        return torch.jit.script(net)


class Answers(nn.Module):
    """Answers with what `form` makes of the logits."""

    def __init__(self, form: Any) -> None:
        super().__init__()
        self.body, self.form = body(), form

    def forward(self, x: Tensor) -> Any:
        return self.form(self.body(x))


def test_normalises_by_itself_and_leaves_the_callers_network_alone() -> None:
    net = body().train()
    ours = zoo.wrap(net, mean=MEAN, std=STD, classes=[*"abcde"], name="mine")
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (MEAN, STD))
    expected = body().eval()((X - mean) / std)
    torch.testing.assert_close(ours(X), expected)
    assert net.training and not ours.training and torch.equal(ours.classify(X), ours(X))
    assert ours.classes == tuple("abcde") and ours.num_classes == 5 and ours.card["name"] == "mine"
    ours.network[0].weight.data.zero_()
    assert net[0].weight.any()


@pytest.mark.parametrize("method", ["source", "bn1", "tent", "palm"])
def test_adapters_take_it(method: str) -> None:
    ours = zoo.wrap(body(), mean=MEAN, std=STD, classes=[*"abcde"])
    assert adapt.create(method, ours)(X).shape == (4, 5)


FORMS = [lambda z: z, lambda z: SimpleNamespace(logits=z), lambda z: {"logits": z, "loss": 0}]


@pytest.mark.parametrize("form", FORMS)
def test_answers_with_logits(form: Any) -> None:
    ours = zoo.wrap(Answers(form), mean=MEAN, std=STD)
    assert torch.equal(ours(X), zoo.wrap(body(), mean=MEAN, std=STD)(X))


@pytest.mark.parametrize(
    ("form", "says"), [(lambda z: (z, z), "a tuple"), (lambda z: z[:, 0], r"Tensor \[4\]")]
)
def test_answers_without_logits(form: Any, says: str) -> None:
    with pytest.raises(ValueError, match=f"answers with .*{says}.*not with logits"):
        zoo.wrap(Answers(form), mean=MEAN, std=STD)(X)


def test_what_timm_says_of_a_network_is_used(caplog: pytest.LogCaptureFixture) -> None:
    import timm

    net = timm.create_model("resnet18", num_classes=10)
    ours = zoo.wrap(net, classes="cifar10")
    assert ours.mean.flatten().tolist() == pytest.approx(net.pretrained_cfg["mean"])
    assert ours.card["name"] == "resnet18" and ours.classes[0] == "airplane"
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        zoo.wrap(net, mean=MEAN, std=STD)
    assert "yours are used" in caplog.text
    with pytest.raises(ValueError, match="resnet18 has 10 outputs, but 100 class names"):
        zoo.wrap(net, classes="cifar100")


def test_names_that_do_not_fit_are_found_at_the_first_call() -> None:
    ours = zoo.wrap(body(), mean=MEAN, std=STD, classes=["cat", "dog"])
    with pytest.raises(ValueError, match="Sequential has 5 outputs, but 2 class names"):
        ours(X)


@pytest.mark.parametrize(
    ("module", "settings", "message"),
    [
        (body(), {}, r"does not say how .* \(0, 0, 0\)"),
        (body(), {"mean": MEAN}, "give mean=… and std=…"),
        (body(), {"mean": (123.7, 116.3, 103.5), "std": (58.4, 57.1, 57.4)}, "divide .* by 255"),
        (body(), {"mean": (0.5,), "std": (0.5,)}, "three numbers each"),
        (body(), {"mean": MEAN, "std": (0.5, 0.0, 0.5)}, "std positive"),
        (body(), {"mean": (0.5, float("nan"), 0), "std": STD}, "three numbers"),
        (zoo.create("wrn-10-1"), {"mean": MEAN, "std": STD}, "by itself already .mean and std"),
        (nn.ReLU(), {"mean": MEAN, "std": STD}, "has no parameters"),
        (scripted(body()), {"mean": MEAN, "std": STD}, "takes a torch.nn.Module, not"),
        (body(), {"mean": MEAN, "std": STD, "classes": "svhn"}, "no class names are .* 'svhn'"),
        (lambda x: x, {"mean": MEAN, "std": STD}, "takes a torch.nn.Module, not function"),
    ],
)
def test_refused(module: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        zoo.wrap(module, **settings)


def test_images_are_resized_and_outputs_chosen_inside() -> None:
    names = ("a", "b", "c", "d", "e")
    how = {"mean": MEAN, "std": STD, "size": 16, "outputs": [4, 1]}
    net = zoo.wrap(body(), classes=names, **how)
    larger = nn.functional.interpolate(X, (16, 16), mode="bicubic", antialias=True).clamp(0, 1)
    whole = zoo.wrap(body(), classes=names, mean=MEAN, std=STD)
    assert torch.equal(net(X), whole(larger)[:, [4, 1]])
    assert net.classes == ("e", "b") and net.num_classes == 2
    assert net.card["resized"] == "bicubic to 16 pixels" and net.card["outputs"] == [4, 1]
    assert torch.equal(net(larger), whole(larger)[:, [4, 1]])  # nothing is resampled in vain
    assert torch.equal(zoo.wrap(body(), classes=("e", "b"), **how)(X), net(X))
    adapted = adapt.create("tent", net)
    assert torch.equal(adapted.predict(X), adapted(X)) and adapted(X).shape == (4, 2)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"outputs": [1, 1]}, "different positions"),
        ({"outputs": [3]}, "two or more"),
        ({"outputs": [0, -1]}, "positions from 0"),
        ({"outputs": [0, 5], "classes": ("a", "b", "c", "d", "e")}, "from 0 to 4"),
        ({"size": 0}, "1 or more, not 0"),
    ],
)
def test_impossible_outputs_and_sizes(how: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        zoo.wrap(body(), mean=MEAN, std=STD, **how)
