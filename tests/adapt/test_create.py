"""Making an adapter, and which networks a method has a meaning for."""

from __future__ import annotations

from typing import Any

import pytest
import small_networks as small
import torch
from test_methods import create
from torch import nn

from tttlib import adapt
from tttlib.adapt.common import parameters
from tttlib.models import zoo


def test_names() -> None:
    assert adapt.NAMES[:3] == ("source", "bn1", "tent") and "palm" in adapt.NAMES
    assert set(adapt.NAMES) == set(adapt.METHODS)
    with pytest.raises(ValueError, match="unknown method 'TENT'; known are source, bn1, tent"):
        adapt.create("TENT", small.wide_resnet())


PAPERS: dict[str, dict[str, list[Any]]] = {
    "tent": {"lr": [1e-3, 1e-3, 2.5e-4], "optimizer": ["adam", "adam", "sgd"]},
    "palm": {"lr": [5e-4, 5e-4, 5e-5], "alpha": [0.5, 0.9, 0.5], "temperature": [50, 100, 1000]},
    "law": {"lr": [1e-3, 5e-5, 2e-4], "tau": [1, 0.6, 1]},
    "surgical": {"lr": [1e-3, 1e-3, 5e-4], "optimizer": ["sgd"] * 3, "nesterov": [True] * 3},
    "cotta": {"confidence": [0.92, 0.72, 0.1], "restore": [0.01, 0.01, 0.001]},
    "adacontrast": {"lr": [2e-4] * 3, "refine_after": [1024] * 3},
}
PAPERS["palm"] |= {"threshold": [1.0, 0.5, 0.3], "weight_decay": [0, 5e-4, 0]}
PAPERS["cotta"] |= {"lr": [1e-3, 1e-3, 0.01], "optimizer": ["adam", "adam", "sgd"]}
PAPERS["cotta"] |= {"symmetric": [False, False, True]}


@pytest.mark.parametrize("name", PAPERS)
def test_constants_of_the_papers(name: str) -> None:
    presets = adapt.METHODS[name].presets
    for constant, values in PAPERS[name].items():
        assert [getattr(presets[p], constant) for p in adapt.PRESETS] == values, constant


# Tensors and elements that the released codes train (methods of the tables).
@pytest.mark.parametrize(
    ("preset", "palm", "first", "norms"),
    [
        ("wrn-28-10", (78, 36_472_784), (25, 1_640_672), (50, 17_952)),
        ("resnext-29", (93, 6_797_632), (30, 302_592), (62, 25_216)),
        ("resnet-50", (159, 23_508_032), (30, 215_808), (106, 53_120)),
    ],
)
def test_trained_sizes(
    preset: str, palm: tuple[int, int], first: tuple[int, int], norms: tuple[int, int]
) -> None:
    with torch.device("meta"):
        net = zoo.create(preset)
    sizes = {name: p.numel() for name, p in net.named_parameters()}
    rules = (parameters.convolutions_and_norms, parameters.first_block, parameters.norm_affine)
    for of, expected in zip(rules, (palm, first, norms), strict=True):
        names = of(net)
        assert (len(names), sum(sizes[n] for n in names)) == expected
    assert len(parameters.all_weights(net)) == len(sizes)


UNFIT = {"BatchNorm", "self-supervision"}  # needs that a transformer's logits do not meet
FIT = [n for n in adapt.NAMES if not UNFIT & set(adapt.METHODS[n].needs) and n != "ecotta"]


@pytest.mark.parametrize("name", FIT)
def test_a_transformer_adapts_what_its_logits_depend_on(name: str) -> None:
    adapter = create(name, small.autoencoder())
    before = small.parameters(adapter)
    for t in range(2):
        logits = adapter(small.images(seed=t))
    assert logits.shape == (6, 5) and logits.isfinite().all()
    assert not any(n.startswith(("decoder", "mask_token")) for n in adapter.trained)
    moved = {n for n, p in small.parameters(adapter).items() if not torch.equal(p, before[n])}
    trains = bool(adapt.METHODS[name].trains)
    assert bool(moved) == (trains and name != "memo")  # which is back where it began
    if name == "tent":
        layers = {n.split(".")[-2] for n in moved}
        assert layers == {"norm1", "norm2", "norm", "classifier_norm"}
    if name == "surgical":
        assert {n.split(".")[:2] == ["blocks", "0"] for n in moved} == {True}


def test_bn1_needs_batch_norm() -> None:
    with pytest.raises(ValueError, match="bn1 replaces the statistics of BatchNorm layers"):
        adapt.create("bn1", small.autoencoder())
    net = small.autoencoder(head_type="linear")  # one BatchNorm layer, on CLS
    adapter, source = adapt.create("bn1", net), adapt.create("source", net)
    assert torch.equal(source(small.images()), net(small.images()).detach())
    assert not torch.equal(adapter(small.images()), source(small.images()))
    one = small.images(1)
    torch.testing.assert_close(adapter(one), source(one))  # no statistics of its own


@pytest.mark.parametrize(
    "name", ["tent", "law", "autolr", "palm", "surgical", "eata", "sar", "deyo", "roid", "rotta"]
)
def test_a_network_without_anything_to_train_is_refused(name: str) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(768, 5))
    with pytest.raises(ValueError, match=f"{name} trains"):
        adapt.create(name, net)


def test_memory_format_is_the_callers() -> None:
    net = small.wide_resnet()
    contiguous = adapt.create("tent", net)(small.images())
    adapter = adapt.create("tent", net.to(memory_format=torch.channels_last))
    seen = []
    adapter.model.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    torch.testing.assert_close(adapter(small.images()), contiguous, atol=1e-4, rtol=0)
    assert seen[0].is_contiguous(memory_format=torch.channels_last)


WRONG: dict[str, dict[str, list[Any]]] = {
    "tent": {"lr": [-1.0, float("nan"), float("inf")], "optimizer": ["rmsprop"], "momentum": [-1]},
    "bn1": {"prior": [-1]},
    "palm": {"alpha": [1.5], "temperature": [0], "threshold": [-1], "variant": ["written"]},
    "law": {"variant": ["code"], "tau": [-1]},
    "surgical": {"consistency": [-1]},
    "cotta": {"confidence": [-1], "views_at_once": [0], "restore": [1.5], "p_th": [0.9]},
    "dss": {"restore": [2], "threshold_momentum": [2], "n_augmentations": [0]},
    "adacontrast": {"temperature": [0], "memory_size": [0], "encoder_momentum": [2]},
    "autolr": {"sorted_enough": [2]},
    "ecotta": {"regularisation": [-1]},
    "palm_ttt": {"rates": ["free"], "alpha": [2], "temperature": [0], "finetune": ["head"]},
}
WRONG["tent"] |= {"loss": ["evidence"], "mass": [0, -1]}
WRONG["eata"] = {"redundancy": [-1], "fisher_weight": [-1], "source_batch": [0], "loss": ["h"]}
WRONG["sar"] = {"rho": [-1], "reset_below": [-1], "mass": [0], "optimizer": ["adam"]}
WRONG["deyo"] = {"destroy": ["colour"], "patches": [0], "optimizer": ["rmsprop"]}
WRONG["rdumb"] = {"reset_every": [0], "steps": [0], "redundancy": [float("nan")]}
WRONG["palm"] |= {"optimizer": ["sgd"], "importance": ["labels"], "steps": [0]}
WRONG["palm"] |= {"selection_granularity": ["element"], "kl_direction": ["p"]}


@pytest.mark.parametrize("name", WRONG)
def test_values_out_of_range_are_refused(name: str) -> None:
    for constant, values in WRONG[name].items():
        for value in values:
            with pytest.raises(ValueError, match=constant):
                adapt.create(name, small.wide_resnet(), **{constant: value})
