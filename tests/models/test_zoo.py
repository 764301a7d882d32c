"""Checkpoints: what is written is read back, what does not fit is refused in one message."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_mae import SIZES, tiny_mae
from torch import Tensor

from tttlib.models import MaskedAutoencoder, zoo

CARD: dict[str, Any] = {
    "architecture": SIZES,
    "mean": [0.1, 0.2, 0.3],
    "std": [0.4, 0.5, 0.6],
    "classes": ["a", "b", "c"],
    "recipe": {"name": "toy"},
    "clean_accuracy": 0.5,
}


def model(seed: int = 0, **overrides: object) -> MaskedAutoencoder:
    return tiny_mae(seed, torch.float32, **overrides).train()


def written(folder: Path, **card: object) -> Path:
    return zoo.save(model(), folder / "toy.safetensors", {**CARD, **card})


@pytest.mark.parametrize("head_type", ["vit_head", "linear"])
def test_round_trip_rounds_to_fp16_and_nothing_else(tmp_path: Path, head_type: str) -> None:
    net = model(head_type=head_type)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    path = tmp_path / "new" / "toy.safetensors"
    architecture = {**SIZES, "head_type": head_type}
    assert zoo.save(net, path, {**CARD, "architecture": architecture}) == path
    stored = load_file(path)
    assert {t.dtype for t in stored.values() if t.is_floating_point()} == {torch.float16}
    assert path.stat().st_mode == path.with_suffix(".json").stat().st_mode
    loaded = zoo.load(path)
    assert not loaded.training and loaded.classes == ("a", "b", "c")
    expected = net.state_dict()
    assert all(torch.equal(value, before[name]) for name, value in expected.items())
    assert loaded.state_dict().keys() == expected.keys()
    for name, value in loaded.state_dict().items():
        assert value.dtype == expected[name].dtype
        assert torch.equal(value, expected[name].half().to(value.dtype)), name
    assert sorted(p.name for p in path.parent.iterdir()) == ["toy.json", "toy.safetensors"]


def test_card_comes_back_with_name_and_hash(tmp_path: Path) -> None:
    path = written(tmp_path)
    card = zoo.load(str(path)).card
    assert card == {**CARD, "name": "toy", "weights_sha256": zoo.weights_hash(path)}
    assert re.fullmatch("[0-9a-f]{16}", card["weights_sha256"])
    assert json.loads((tmp_path / "toy.json").read_text()) == CARD == zoo.read_card(path)
    other = zoo.save(model(seed=1), tmp_path / "other.safetensors", CARD)
    assert zoo.weights_hash(other) != card["weights_sha256"]


def test_mean_and_std_of_the_card_are_applied(tmp_path: Path) -> None:
    net = zoo.load(written(tmp_path))
    assert net.mean.shape == net.std.shape == (1, 3, 1, 1)
    x = torch.rand(2, 3, 16, 16, generator=torch.manual_seed(1))
    mean, std = (torch.tensor(CARD[name]).view(3, 1, 1) for name in ("mean", "std"))
    outside = (x - mean) / std
    raw = model().eval()
    raw.load_state_dict(net.state_dict())
    torch.testing.assert_close(net.normalize(x), outside)
    torch.testing.assert_close(net.classify(x), raw.classify(outside), atol=1e-6, rtol=0)
    assert not torch.allclose(net.classify(x), raw.classify(x), atol=1e-3)


@pytest.mark.parametrize("name", zoo.PRESETS)
def test_presets_are_buildable(name: str) -> None:
    with torch.device("meta"):
        net = zoo.create(name)
    assert net.num_classes == zoo.PRESETS[name]["num_classes"]


def test_create_takes_overrides() -> None:
    net = zoo.create("scenes", depth=1, num_classes=4)
    assert len(net.blocks) == 1 and net.classifier_pred.out_features == 4
    assert len(zoo.create("scenes").blocks) == zoo.PRESETS["scenes"]["depth"]  # unchanged
    with pytest.raises(ValueError, match=r"unknown model preset 'giant'; known are small, base"):
        zoo.create("giant")


def test_unknown_name_lists_the_bundled_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zoo, "WEIGHTS", tmp_path)
    with pytest.raises(ValueError, match=r"unknown model 'resnet'; bundled are \(none\); .*path"):
        zoo.load("resnet")
    written(tmp_path)
    with pytest.raises(ValueError, match=r"unknown model 'resnet'; bundled are toy; .*path"):
        zoo.load("resnet")
    assert zoo.bundled() == ("toy",) and zoo.load("toy").card["name"] == "toy"


@pytest.mark.parametrize("name", ["missing.safetensors", "folder/missing"])
def test_missing_file_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(FileNotFoundError, match=re.escape(f"no checkpoint at {tmp_path / name}")):
        zoo.load(tmp_path / name)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_cards_of_other_editors(tmp_path: Path, encoding: str) -> None:
    path = written(tmp_path, classes=["Zürich", "cat", "dog"])
    card = path.with_suffix(".json")
    content = json.loads(card.read_text(encoding="utf-8"))
    card.write_text(json.dumps(content, ensure_ascii=False), encoding=encoding)
    assert zoo.load(path).classes[0] == "Zürich"
    card.write_bytes(card.read_text(encoding=encoding).encode("utf-16"))
    with pytest.raises(zoo.CheckpointError, match=r"toy\.json is no JSON object"):
        zoo.load(path)


@pytest.mark.parametrize("text", ["{", "[]", '{"mean": [0, 0, 0]}'])
def test_unusable_card_is_named(tmp_path: Path, text: str) -> None:
    path = written(tmp_path)
    (tmp_path / "toy.json").write_text(text)
    with pytest.raises(zoo.CheckpointError, match=re.escape(str(tmp_path / "toy.json"))):
        zoo.load(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architecture": {"family": "vgg"}}, "unknown model family 'vgg'"),
        ({"architecture": {**SIZES, "layers": 3}}, "layers"),
        ({"architecture": {**SIZES, "embed_dim": 9}}, "embed_dim 9 must be divisible"),
        ({"mean": [0.5, 0.5]}, "2"),
        ({"std": [0.5, 0.0, 0.5]}, r"std \[0.5, 0.0, 0.5\] must be finite, std positive"),
        ({"mean": [float("nan")] * 3}, "must be finite"),
        ({"mean": None}, "NoneType"),
        ({"classes": None}, "NoneType"),
        ({"classes": ["a", "b"]}, "2 names for 3 classes"),
    ],
)
def test_a_card_that_describes_no_model(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    path = written(tmp_path, **change)
    card = re.escape(str(path.with_suffix(".json")))
    with pytest.raises(zoo.CheckpointError, match=f"{card} describes no model: .*{message}.*Fetch"):
        zoo.load(path)


def test_everything_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    path = written(tmp_path)
    tensors = load_file(path)
    del tensors["cls_token"], tensors["mask_token"]
    save_file({**tensors, "extra": torch.zeros(1), "norm.bias": torch.zeros(9)}, path)
    with pytest.raises(zoo.CheckpointError) as caught:
        zoo.load(path)
    text = str(caught.value)
    for part in (str(path), "2 missing (cls_token, mask_token)", "extra", "norm.bias is [9]"):
        assert part in text
    assert "\n" not in text


def test_a_checkpoint_of_other_sizes_gives_a_short_message(tmp_path: Path) -> None:
    path = written(tmp_path, architecture={**SIZES, "embed_dim": 8, "depth": 3})
    with pytest.raises(zoo.CheckpointError, match=r"12 missing \(.*…\).*wrong shape") as caught:
        zoo.load(path)
    assert len(str(caught.value)) < 700 + len(str(path))


@pytest.mark.parametrize("exists", [False, True])
def test_interrupted_save_leaves_no_half_file(
    tmp_path: Path, exists: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "toy.safetensors"
    if exists:
        written(tmp_path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}

    def half(tensors: dict[str, Tensor], file: Path) -> None:
        Path(file).write_bytes(b"half a checkpoint")
        raise KeyboardInterrupt

    monkeypatch.setattr(zoo, "save_file", half)
    with pytest.raises(KeyboardInterrupt):
        zoo.save(model(seed=1), path, {**CARD, "clean_accuracy": 0.9})
    left = {p.name: p.read_bytes() for p in tmp_path.iterdir() if not p.name.endswith(".tmp")}
    assert left == before


@pytest.mark.parametrize("name", zoo.bundled())
def test_bundled_checkpoints(name: str) -> None:
    path = zoo.WEIGHTS / f"{name}.safetensors"
    assert path.stat().st_size <= 20e6
    net = zoo.load(name)
    assert not net.training and net.card["name"] == name
    assert all(p.isfinite().all() for p in net.parameters())
    needed = {"recipe", "seed", "git_sha", "data", "data_fingerprint", "epochs", "clean_accuracy"}
    assert needed <= net.card.keys()
    assert 1 / len(net.classes) < net.card["clean_accuracy"] <= 1
    side = getattr(net, "img_size", 32)
    logits = net.classify(torch.rand(1, 3, side, side))
    assert len(net.classes) == net.num_classes == logits.shape[1]


def test_bundled_checkpoints_together_stay_small() -> None:
    assert sum(p.stat().st_size for p in zoo.WEIGHTS.glob("*.safetensors")) <= 80e6
