"""Released checkpoints: written here in each publisher's format, loaded, compared, damaged."""

from __future__ import annotations

import argparse
import bz2
import gzip
import io
import logging
import lzma
import pickle
import re
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tiny_mae import SIZES as MAE
from torch import Tensor
from torch.nn import functional as F

from tttlib.data import cifar10_jpeg
from tttlib.models import CheckpointError, checkpoints, key_names, presets, zoo
from tttlib.models.sources import IMAGENET_MEAN, IMAGENET_STD, SOURCES, class_names

State = dict[str, Tensor]

WRN = {"depth": 10, "width": 1}
RESNEXT = {"depth": 11, "cardinality": 2, "base_width": 8}
RESNET = {"layers": (1, 1, 1, 1)}


def weights(preset: str, **sizes: Any) -> State:
    """Random weights of every kind, running statistics and position embeddings included."""
    random = torch.Generator().manual_seed(0)
    state = zoo.create(preset, **sizes).state_dict()
    for key, value in state.items():
        if value.is_floating_point():
            state[key] = 0.1 * torch.randn(value.shape, generator=random)
            if key.endswith("running_var"):
                state[key] = 1 + state[key].abs()
    return dict(state)


def under(prefix: str, state: State) -> State:
    return {f"{prefix}{k}": v for k, v in state.items()}


def without(state: State, *words: str) -> State:
    return {k: v for k, v in state.items() if not any(word in k for word in words)}


def saved(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


def reference(preset: str, state: State, mean: Any, std: Any, **sizes: Any) -> Any:
    net = zoo.create(preset, **sizes).eval()
    net.load_state_dict(state)
    net.mean.copy_(torch.tensor(mean).view(-1, 1, 1))
    net.std.copy_(torch.tensor(std).view(-1, 1, 1))
    return net


# -- the classifiers -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "wrap"),
    [
        ("Standard.pt", lambda s: s),
        ("Standard.pt", lambda s: {"state_dict": s}),
        ("natural.pt.tar", lambda s: {"state_dict": under("module.", s), "epoch": 199}),
        ("natural.pt.tar", lambda s: {"state_dict": under("module.model.", s), "best": 0.1}),
    ],
)
def test_cifar10_takes_raw_pixels(
    tmp_path: Path, name: str, wrap: Callable[[State], object]
) -> None:
    state = weights("wrn-28-10", **WRN)
    net = checkpoints.load(saved(tmp_path / name, wrap(state)), "wrn-28-10", **WRN)
    x = torch.rand(2, 3, 32, 32)
    expected = reference("wrn-28-10", state, [0.0], [1.0], **WRN)
    assert torch.equal(net(x), expected(x)) and not net.training
    assert net.classes == cifar10_jpeg.CLASSES
    assert net.card["clean_accuracy"] is None  # not the published architecture


@pytest.mark.parametrize(("prefix", "own"), [("", True), ("module.", True), ("module.", False)])
def test_cifar100_is_centred_with_and_without_the_wrappers_buffers(
    tmp_path: Path, prefix: str, own: bool, caplog: pytest.LogCaptureFixture
) -> None:
    state = weights("resnext-29", **RESNEXT)
    half = torch.full((1, 3, 1, 1), 0.5)
    content = {**state, "mu": half, "sigma": half} if own else state
    dump = {"epoch": 199, "state_dict": under(prefix, content), "best_acc": 0.789, "optimizer": {}}
    path = saved(tmp_path / "Hendrycks2020AugMix_ResNeXt.pt", dump)
    net = checkpoints.load(path, "resnext-29", **RESNEXT)
    x = torch.rand(2, 3, 32, 32)
    assert torch.equal(net(x), reference("resnext-29", state, [0.5], [0.5], **RESNEXT)(x))
    assert net.classes[0] == "apple" and net.classes[99] == "worm"
    assert not caplog.records


@pytest.mark.parametrize(("wrapped", "accuracy"), [(False, 0.7613), (True, 0.7672)])
def test_imagenet_bare_and_inside_the_wrapper(
    tmp_path: Path, wrapped: bool, accuracy: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(zoo.PRESETS, "resnet-50", {**zoo.PRESETS["resnet-50"], **RESNET})
    state = weights("resnet-50")
    content = state
    if wrapped:
        own = {"mean": torch.tensor(IMAGENET_MEAN), "std": torch.tensor(IMAGENET_STD)}
        content = under("model.", state) | under("normalize.", own)
    net = checkpoints.load(saved(tmp_path / "resnet50.pth", content), "resnet-50")
    x = torch.rand(1, 3, 64, 64)
    assert torch.equal(net(x), reference("resnet-50", state, IMAGENET_MEAN, IMAGENET_STD)(x))
    assert net.classes[:2] == ("tench", "goldfish") and net.classes[19] == "chickadee"
    assert net.card["clean_accuracy"] == accuracy  # torchvision's and RobustBench's numbers differ


def test_the_full_size_carries_the_published_accuracy(tmp_path: Path) -> None:
    path = saved(tmp_path / "augmix.pt", under("module.", weights("resnext-29")))
    net = zoo.load(path, preset="resnext-29")
    assert net.card["clean_accuracy"] == 0.7890 and "RobustBench" in net.card["clean_accuracy_on"]
    assert net.card["weights_sha256"] == zoo.weights_hash(path) and net.card["name"] == "augmix"
    assert net.card["mean"] == [0.5] * 3 == net.card["std"]
    assert net.card["preset"] == "resnext-29"


@pytest.mark.parametrize("preset", SOURCES)
def test_every_source_names_its_classes(preset: str) -> None:
    names = class_names(SOURCES[preset].classes)
    assert len(names) == zoo.PRESETS[preset]["num_classes"]
    if SOURCES[preset].classes != "imagenet":
        assert list(names) == sorted(set(names))


def test_the_files_own_normalisation_wins_and_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state = weights("resnext-29", **RESNEXT)
    own = {"mu": torch.full((1, 3, 1, 1), 0.4), "sigma": torch.full((1, 3, 1, 1), 0.2)}
    path = saved(tmp_path / "other.pt", state | own)
    with caplog.at_level(logging.WARNING, "tttlib.models.checkpoints"):
        net = checkpoints.load(path, "resnext-29", **RESNEXT)
    assert net.mean.flatten().tolist() == pytest.approx([0.4] * 3)
    assert net.card["std"] == pytest.approx([0.2] * 3)
    assert "the file's values are used" in caplog.text and str(path) in caplog.text


def test_half_precision_becomes_float32(tmp_path: Path) -> None:
    state = {k: v.half() if v.is_floating_point() else v for k, v in weights("wrn-10-1").items()}
    net = checkpoints.load(saved(tmp_path / "half.pt", state), "wrn-28-10", **WRN)
    assert {p.dtype for p in net.parameters()} == {torch.float32}
    assert torch.equal(net.fc.bias, state["fc.bias"].float())


# -- masked autoencoders ---------------------------------------------------------------------------


def mae_files(folder: Path, head_type: str = "vit_head") -> tuple[State, Path, Path]:
    """A Y-shaped network, its MAE file and its head file, as their training scripts write them."""
    sizes = {**MAE, "head_type": head_type}
    state = weights("large", **sizes)
    ours = ("classifier",) if head_type == "vit_head" else ("bn.", "head.")
    body = {k: v for k, v in state.items() if not k.startswith(ours)}
    path = saved(folder / "mae_pretrain_vit_large_full.pth", {"model": body})
    probed = without(state, "decoder", "mask_token")
    if head_type == "linear":
        rename = {"bn.running_mean": "head.0.running_mean", "bn.running_var": "head.0.running_var"}
        rename |= {"head.weight": "head.1.weight", "head.bias": "head.1.bias"}
        probed = {rename.get(k, k): v for k, v in probed.items() if k != "bn.num_batches_tracked"}
    dump = {
        "model": probed,
        "optimizer": {"state": {}, "param_groups": [{"lr": 1e-3}]},
        "epoch": 19,
        "args": argparse.Namespace(blr=1e-3, data_path="imagenet"),
    }
    return state, path, saved(folder / "prob_lr1e-3_wd.2_blk12_ep20.pth", dump)


@pytest.mark.parametrize("head_type", ["vit_head", "linear"])
def test_mae_and_head_are_merged(
    tmp_path: Path, head_type: str, caplog: pytest.LogCaptureFixture
) -> None:
    state, path, head = mae_files(tmp_path, head_type)
    net = zoo.load(path, preset="large", head=head, **MAE)
    sizes = {**MAE, "head_type": head_type}
    expected = reference("large", state, IMAGENET_MEAN, IMAGENET_STD, **sizes)
    x = torch.rand(2, 3, 16, 16)
    order = net.random_order(2, torch.Generator().manual_seed(0))
    assert torch.equal(net.classify(x), expected.classify(x))
    loss = net.reconstruction_loss(x, order=order)
    assert torch.equal(loss, expected.reconstruction_loss(x, order=order))
    assert net.card["files"] == [path.name, head.name]
    assert net.card["architecture"]["head_type"] == head_type
    assert argparse.Namespace not in torch.serialization.get_safe_globals()
    assert net.card["weights_sha256"] not in (zoo.weights_hash(path), zoo.weights_hash(head))
    assert not caplog.records


def test_preset_file_and_head_in_one_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, path, head = mae_files(tmp_path, "vit_head")
    monkeypatch.setenv("TTTLIB_DATA", str(tmp_path))
    separate = zoo.load(path, preset="large", head=head, **MAE)
    with monkeypatch.context() as small:  # the presets are large
        small.setitem(presets.PRESETS, "large", {**presets.PRESETS["large"], **MAE})
        for at in (tmp_path, Path()):  # a name alone is looked for in the folder of the datasets
            net = zoo.load(f"large:{at / path.name}+{at / head.name}")
            x = torch.rand(2, 3, 16, 16)
            assert torch.equal(net.classify(x), separate.classify(x))
            assert net.card["weights_sha256"] == separate.card["weights_sha256"]
    with pytest.raises(FileNotFoundError, match=r"at nowhere.pt, nor at .*nowhere.pt"):
        zoo.load("wrn-28-10:nowhere.pt")
    with pytest.raises(ValueError, match=r"preset 'wrn-28-10' has no separate head"):
        zoo.load(path, preset="wrn-28-10", head=head)


@pytest.mark.parametrize(
    ("name", "sizes", "expected"),
    [
        ("mae_pretrain_vit_large_full.pth", {}, True),
        ("mae_visualize_vit_large_ganloss.pth", {}, False),
        ("mae_visualize_vit_large.pth", {"norm_pix_loss": True}, True),
        ("model.safetensors", {}, False),
        ("model.safetensors", {"norm_pix_loss": True}, True),
    ],
)
def test_what_the_decoder_predicts(
    tmp_path: Path, name: str, sizes: dict[str, bool], expected: bool
) -> None:
    state, path = weights("large", **MAE), tmp_path / name
    if name.endswith(".pth"):
        saved(path, {"model": state})
    else:
        save_file(hugging_face(state, depth=2, decoder_depth=1), path)
    net = checkpoints.load(path, "large", **MAE, **sizes)
    assert net.norm_pix_loss is expected and net.card["architecture"]["norm_pix_loss"] is expected
    if name.endswith(".pth"):  # with the head inside
        assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())
    else:
        with pytest.raises(ValueError, match="no classifier"):
            net(torch.rand(1, 3, 16, 16))


def test_a_head_probed_on_another_encoder_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state, _, head = mae_files(tmp_path)
    body = {k: v + (k == "norm.bias") for k, v in state.items() if not k.startswith("classifier")}
    path = saved(tmp_path / "other.pth", {"model": body})
    with caplog.at_level(logging.WARNING, "tttlib.models.checkpoints"):
        checkpoints.load(path, "large", head=head, **MAE)
    assert "probed on another encoder" in caplog.text and "(norm.bias)" in caplog.text


def block_keys(at: str) -> dict[str, str]:
    """Key of one ViTMAE layer -> ours, without the attention's projections."""
    theirs = ("layernorm_before", "layernorm_after", "attention.output.dense")
    theirs += ("intermediate.dense", "output.dense")
    pairs = zip(theirs, ("norm1", "norm2", "attn.proj", "mlp.fc1", "mlp.fc2"), strict=True)
    kinds = ("weight", "bias")
    return {f"{a}.{kind}": f"{at}.{b}.{kind}" for a, b in pairs for kind in kinds}


def hugging_face(state: State, depth: int, decoder_depth: int) -> State:
    """The state dict as `ViTMAEForPreTraining` names it, from a list written out by hand."""
    names = {
        "vit.embeddings.cls_token": "cls_token",
        "vit.embeddings.position_embeddings": "pos_embed",
        "decoder.mask_token": "mask_token",
        "decoder.decoder_pos_embed": "decoder_pos_embed",
    }
    for kind in ("weight", "bias"):
        names |= {
            f"vit.embeddings.patch_embeddings.projection.{kind}": f"patch_embed.proj.{kind}",
            f"vit.layernorm.{kind}": f"norm.{kind}",
            f"decoder.decoder_embed.{kind}": f"decoder_embed.{kind}",
            f"decoder.decoder_norm.{kind}": f"decoder_norm.{kind}",
            f"decoder.decoder_pred.{kind}": f"decoder_pred.{kind}",
        }
    found: State = {}
    stacks = [(f"vit.encoder.layer.{i}", f"blocks.{i}") for i in range(depth)]
    stacks += [(f"decoder.decoder_layers.{i}", f"decoder_blocks.{i}") for i in range(decoder_depth)]
    for theirs, ours in stacks:
        names |= {f"{theirs}.{k}": v for k, v in block_keys(ours).items()}
        for kind in ("weight", "bias"):
            q, k, v = state[f"{ours}.attn.qkv.{kind}"].chunk(3)
            at = f"{theirs}.attention.attention"
            found |= {f"{at}.query.{kind}": q, f"{at}.key.{kind}": k, f"{at}.value.{kind}": v}
    return {k: v.contiguous() for k, v in found.items()} | {k: state[v] for k, v in names.items()}


def hugging_face_encoder(w: State, x: Tensor, depth: int, heads: int) -> Tensor:
    """ViTMAE's encoder on whole normalised images, from its own keys: tokens [B,1+L,D]."""

    def linear(x: Tensor, at: str) -> Tensor:
        return x @ w[f"{at}.weight"].T + w[f"{at}.bias"]

    def norm(x: Tensor, at: str) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()
        return scaled * w[f"{at}.weight"] + w[f"{at}.bias"]

    at = "vit.embeddings"
    kernel = w[f"{at}.patch_embeddings.projection.weight"]
    x = F.conv2d(x, kernel, w[f"{at}.patch_embeddings.projection.bias"], stride=kernel.shape[-1])
    x = x.flatten(2).transpose(1, 2)  # [B,L,D]
    x = torch.cat([w[f"{at}.cls_token"].expand(len(x), -1, -1), x], 1)
    x = x + w[f"{at}.position_embeddings"]
    for i in range(depth):
        at = f"vit.encoder.layer.{i}"
        y = norm(x, f"{at}.layernorm_before")
        parts = [linear(y, f"{at}.attention.attention.{n}") for n in ("query", "key", "value")]
        out = []
        for q, k, v in zip(*(p.chunk(heads, -1) for p in parts), strict=True):  # one head each
            out.append((q @ k.transpose(1, 2) / q.shape[-1] ** 0.5).softmax(-1) @ v)
        x = x + linear(torch.cat(out, -1), f"{at}.attention.output.dense")
        y = F.gelu(linear(norm(x, f"{at}.layernorm_after"), f"{at}.intermediate.dense"))
        x = x + linear(y, f"{at}.output.dense")
    return norm(x, "vit.layernorm")


def test_hugging_face_weights_give_identical_outputs(tmp_path: Path) -> None:
    state, _, head = mae_files(tmp_path)
    path = tmp_path / "model.safetensors"
    theirs = hugging_face(state, depth=2, decoder_depth=1)
    save_file(theirs, path)
    net = zoo.load(path, preset="large", head=head, **MAE)
    bare = zoo.load(path, preset="base", **MAE)
    assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())
    assert bare.state_dict().keys() == {k for k in state if not k.startswith("classifier")}
    sizes = {**MAE, "norm_pix_loss": False}
    expected = reference("large", state, IMAGENET_MEAN, IMAGENET_STD, **sizes)
    x, order = torch.rand(2, 3, 16, 16), net.random_order(2, torch.Generator().manual_seed(0))
    assert torch.equal(bare.encode(x), expected.encode(x))
    loss = bare.reconstruction_loss(x, order=order)
    assert torch.equal(loss, expected.reconstruction_loss(x, order=order))
    slow = hugging_face_encoder(
        {k: v.double() for k, v in theirs.items()}, bare.double().normalize(x.double()), 2, 2
    )
    torch.testing.assert_close(bare.tokens(x.double()), slow, atol=1e-10, rtol=0)


@pytest.mark.parametrize("preset", ["base", "large", "huge"])
def test_hugging_face_full_key_list(preset: str) -> None:
    with torch.device("meta"):
        net = zoo.create(preset, head_type="none")
    state = dict(net.state_dict())
    theirs = hugging_face(state, len(net.blocks), len(net.decoder_blocks))
    assert len(theirs) == 14 + 16 * (len(net.blocks) + len(net.decoder_blocks))
    found = key_names.from_hugging_face(theirs)
    assert {k: v.shape for k, v in found.items()} == {k: v.shape for k, v in state.items()}


@pytest.mark.parametrize("preset", SOURCES)
def test_prefixes_come_off_the_full_key_list(preset: str) -> None:
    with torch.device("meta"):
        state = dict(zoo.create(preset).state_dict())
    bare = {key.removeprefix("network.") for key in state}  # a wrapped network's prefix goes too
    for content in (under("module.", state), {"model": under("model.", state)}):
        assert key_names.weights(content).state.keys() == bare


# -- files as people have them ---------------------------------------------------------------------


def averaged(state: State) -> State:
    """The same shapes, other numbers."""
    return {k: v + 0.5 if v.is_floating_point() else v for k, v in state.items()}


def shadow(state: State) -> State:
    net = torch.optim.swa_utils.AveragedModel(zoo.create("wrn-28-10", **WRN))
    net.module.load_state_dict(state)
    return dict(net.state_dict())


FORMS: dict[str, Callable[[State], object]] = {
    "compiled": lambda s: under("_orig_mod.", s),
    "parallel, compiled": lambda s: under("module._orig_mod.", s),
    "compiled, parallel": lambda s: {"model_state_dict": under("_orig_mod.module.", s)},
    "lightning": lambda s: {"state_dict": under("net.", s), "pytorch-lightning_version": "2.4"},
    "backbone": lambda s: {"net": under("backbone.", s), "acc": 93.5, "epoch": 199},
    "fabric": lambda s: {"model": under("_forward_module.model.", s)},
    "nested": lambda s: {"model": {"state_dict": s, "name": "wrn"}, "optimizer": {"state": {}}},
    "metrics in between": lambda s: {**s, "epoch": 3, "best": 0.9, "history": [1, 2]},
    "numpy metrics": lambda s: {"model": s, "acc": np.float64(0.9), "curve": np.linspace(0, 1, 3)},
    "numpy flags": lambda s: {"model": s, "step": np.int64(3), "seen": np.bool_(True)},
    "old, without counts": lambda s: without(s, "num_batches_tracked"),
    "prefix inside": lambda s: under("model.module.", s),
    "numpy weights": lambda s: {k: v.numpy() for k, v in s.items()},
    "averaged": shadow,
    "averaged, parallel": lambda s: {"state_dict": under("module.", shadow(s))},
    "an average alone": lambda s: {"ema": s, "decay": 0.999},
    "an average in another list": lambda s: {"params_ema": s},
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_one_state_dict(tmp_path: Path, form: str) -> None:
    state = weights("wrn-28-10", **WRN)
    net = checkpoints.load(saved(tmp_path / "x.pt", FORMS[form](state)), "wrn-28-10", **WRN)
    for name, value in net.state_dict().items():
        assert torch.equal(value, state[name]), name
    assert ("average" in net.card.get("weights", "")) == ("average" in form)


@pytest.mark.parametrize(
    "form",
    [
        lambda raw, ema: {"state_dict": raw, "state_dict_ema": ema, "epoch": 3},
        lambda raw, ema: {"model_ema": under("module.", ema), "model": raw},
        lambda raw, ema: {"params": raw, "params_ema": ema},
        lambda raw, ema: {"checkpoint": 1, "net": raw, "ema": {"shadow": ema, "decay": 0.99}},
        lambda raw, ema: {**under("online_model.", raw), **under("ema_model.", ema)},
        lambda raw, ema: {"state_dict": {**under("model.", raw), **under("model_ema.", ema)}},
        lambda raw, ema: {"model": raw, "swa_state_dict": {**under("module.", ema)}},
    ],
)
def test_raw_weights_beside_their_average(
    tmp_path: Path, form: Callable[[State, State], object], caplog: pytest.LogCaptureFixture
) -> None:
    raw = weights("wrn-28-10", **WRN)
    path = saved(tmp_path / "x.pt", form(raw, averaged(raw)))
    for choice, expected, kind in ((None, averaged(raw), "average"), (False, raw, "raw")):
        caplog.clear()
        net = zoo.load(path, preset="wrn-28-10", average=choice, **WRN)
        assert torch.equal(net.fc.weight, expected["fc.weight"])
        assert net.card["weights"].startswith(kind) and f"loaded the {kind}" in caplog.text
    assert torch.equal(zoo.load(path, preset="wrn-28-10", average=True, **WRN).mean, net.mean)


@pytest.mark.parametrize(("container", "average"), [("model", True), ("model_ema", False)])
def test_weights_that_the_file_lacks(tmp_path: Path, container: str, average: bool) -> None:
    path = saved(tmp_path / "x.pt", {container: weights("wrn-28-10", **WRN)})
    with pytest.raises(CheckpointError, match=f"leave average={average} out"):
        zoo.load(path, preset="wrn-28-10", average=average, **WRN)


def packed(module: Any) -> Callable[[Path, State], None]:
    def write(path: Path, state: State) -> None:
        torch.save(state, path)
        path.write_bytes(module.compress(path.read_bytes()))

    return write


def scripted(path: Path, state: State) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer versions of PyTorch say that it is old
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), str(path))


def zipped(path: Path, state: State) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("weights/model.pt", b"...")


FOREIGN: dict[str, tuple[Callable[[Path, State], object], str]] = {
    "gzip": (packed(gzip), r"is compressed \(gzip\); unpack"),
    "bzip2": (packed(bz2), r"is compressed \(bzip2\); unpack"),
    "xz": (packed(lzma), r"is compressed \(xz\); unpack"),
    "zip": (zipped, "is a zip archive; unpack"),
    "TorchScript": (scripted, r"is a TorchScript program; save `program.state_dict\(\)`"),
    "LFS": (
        lambda path, state: path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid 0"),
        "is a Git LFS pointer of 48 bytes",
    ),
    "Keras": (lambda path, state: path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(99)), "HDF5"),
}


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("kind", FOREIGN)
def test_files_of_another_kind_are_refused_for_what_they_are(
    tmp_path: Path, kind: str, suffix: str
) -> None:
    write, message = FOREIGN[kind]
    path = tmp_path / f"file{suffix}"
    write(path, weights("wrn-28-10", **WRN))
    with pytest.raises(CheckpointError, match=message) as caught:
        zoo.load(path, preset="wrn-28-10", **WRN)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("old_format", [False, True])
def test_the_first_bytes_decide_and_not_the_name(tmp_path: Path, old_format: bool) -> None:
    state = weights("wrn-28-10", **WRN)
    pickled, plain = tmp_path / "a.safetensors", tmp_path / "b.pt"
    torch.save(state, pickled, _use_new_zipfile_serialization=not old_format)
    save_file(state, plain)
    for path in (pickled, plain):
        net = zoo.load(path, preset="wrn-28-10", **WRN)
        assert torch.equal(net.fc.weight, state["fc.weight"])


# -- zoo -------------------------------------------------------------------------------------------


def test_a_card_and_a_preset_contradict(tmp_path: Path) -> None:
    card = {"architecture": zoo.PRESETS["wrn-10-1"], "mean": [0.5], "std": [0.5]}
    card["classes"] = ["a"] * 10
    path = zoo.save(zoo.create("wrn-10-1"), tmp_path / "own.safetensors", card)
    with pytest.raises(ValueError, match=r"has a card.*leave preset='wrn-28-10' out"):
        zoo.load(path, preset="wrn-28-10")
    with pytest.raises(ValueError, match=r"head, depth can only be given with preset"):
        zoo.load(path, head="head.pth", depth=10)


@pytest.mark.parametrize("preset", ["wrn-16-2", "scenes", "vgg"])
def test_presets_without_a_released_file(tmp_path: Path, preset: str) -> None:
    path = saved(tmp_path / "x.pt", {})
    with pytest.raises(ValueError, match=f"no released checkpoint .*'{preset}'.*wrn-28-10, resnex"):
        zoo.load(path, preset=preset)


def test_no_file(tmp_path: Path) -> None:
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(FileNotFoundError, match=re.escape(f"no checkpoint at {path}")):
            checkpoints.load(path, "wrn-28-10")


# -- damaged files ---------------------------------------------------------------------------------


class Code:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.path), "w")


def with_nan(state: State, key: str, value: float = float("nan")) -> State:
    state[key].view(-1)[0] = value
    return state


def cut(write: Callable[[State, Path], None]) -> Callable[[Path, State], None]:
    def write_half(path: Path, state: State) -> None:
        write(state, path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    return write_half


OLD_FORMAT = partial(torch.save, _use_new_zipfile_serialization=False)


def text(content: str) -> Callable[[Path, State], None]:
    return lambda path, state: path.write_text(content) and None


def archive(path: Path, state: State) -> None:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    with tarfile.open(path, "w") as tar:
        tar.addfile(tarfile.TarInfo("natural.pt"))


def put(change: Callable[[State], object]) -> Callable[[Path, State], None]:
    return lambda path, state: torch.save(change(state), path)


def plus(name: str, value: object) -> Callable[[Path, State], None]:
    return put(lambda state: {**state, name: value})


NAMES = {"conv1.weight": "first.weight"}
CLASSIFIERS: dict[str, tuple[Callable[[Path, State], None], str]] = {
    "nan": (put(lambda s: with_nan(s, "fc.weight")), r"NaN .* in 1 of \d+ keys \(fc.weight\); fet"),
    "inf": (put(lambda s: with_nan(s, "bn1.running_var", torch.inf)), r"1 .*\(bn1.running_var"),
    "missing": (put(lambda s: without(s, "fc.bias")), r"1 missing \(fc.bias\)\. .*Fetch"),
    "extra": (plus("swa_n", torch.zeros(1)), r"1 not of this model \(swa_n\)\. .*Fetch"),
    "renamed": (
        put(lambda s: {NAMES.get(k, k): v for k, v in s.items()}),
        r"1 probably renamed \(first.weight for conv1.weight\)\. .*Fetch",
    ),
    "shape": (
        plus("bn1.bias", torch.zeros(65)),
        r"1 wrong shape \(bn1.bias is \[65\], not \[64\]\)",
    ),
    "type": (
        plus("fc.bias", torch.zeros(10).char()),
        r"1 wrong type \(fc.bias is torch.int8, not ",
    ),
    "classes": (
        plus("fc.weight", torch.zeros(100, 64)),
        r"\(fc.weight is \[100, 64\], .*num_classes=…",
    ),
    "another network": (
        put(lambda s: weights("resnext-29", **RESNEXT)),
        r"does not fit preset 'wrn-28-10'.*missing.*not of this model.*Standard\.pt",
    ),
    "twice": (
        plus("module.fc.bias", torch.ones(10)),
        r"holds fc.bias twice, .* of module.fc.bias\. Give",
    ),
    "no dict": (put(lambda s: list(s.values())), r"holds a list, not a state dict\. Give a state"),
    "no tensors": (
        put(lambda s: {"weights": s, "epoch": 3}),
        r"2 of its 2 .*\(weights, epoch\)\. Give",
    ),
    "empty dict": (put(lambda s: {"state_dict": {}}), r"holds no state dict: .*Give a state dict"),
    "half the normalisation": (plus("mu", torch.zeros(3)), r"found \{'mu': \[3\]\}; fetch"),
    "normalisation of one channel": (
        put(lambda s: {**s, "mu": torch.zeros(1), "sigma": torch.ones(1)}),
        r"must be three finite values each, .*\[1\].*remove both",
    ),
    "deviation 0": (
        put(lambda s: {**s, "normalize.mean": torch.zeros(3), "normalize.std": torch.zeros(3)}),
        r"normalize.std of \[0.0, 0.0, 0.0\], which must be positive; fetch",
    ),
    "truncated": (cut(torch.save), r"no complete PyTorch or safetensors file \(\d+ bytes\); fetch"),
    "truncated old format": (cut(OLD_FORMAT), r"no complete PyTorch or .*\(\d+ bytes\); fetch"),
    "truncated safetensors": (cut(save_file), r"no complete safetensors file \(.*fetch"),
    "zero bytes": (text(""), r"is empty \(0 bytes\); fetch it again"),
    "web page": (text("\n<!DOCTYPE html>"), r"begins like text .*fetch the file itself"),
    "archive": (archive, r"is an archive; unpack it"),
    "code": (
        lambda path, state: torch.save({**state, "x": Code(path.with_name("ran"))}, path),
        r"is refused: it is a pickle that asks for io\.open besides tensors.*nothing was run.*Ask",
    ),
    "code in a plain pickle": (
        lambda path, state: path.write_bytes(pickle.dumps(Code(path.with_name("ran")))) and None,
        r"is refused: it is a pickle .*nothing was run.*Ask its publisher",
    ),
    "a whole module": (
        put(lambda s: zoo.create("wrn-10-1")),
        r"is refused: .*wide_resnet.WideResNet",
    ),
}


@pytest.mark.parametrize("damage", CLASSIFIERS)
def test_damaged_classifiers(tmp_path: Path, damage: str) -> None:
    write, message = CLASSIFIERS[damage]
    path = tmp_path / "Standard.pt"
    write(path, weights("wrn-28-10", **WRN))
    with pytest.raises(CheckpointError, match=message) as caught:
        zoo.load(path, preset="wrn-28-10", **WRN)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["Standard.pt"]  # nothing ran


def test_the_code_of_these_tests_would_run(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Code(tmp_path / "ran"))).close()
    assert (tmp_path / "ran").exists()


def sized(**sizes: int) -> Callable[[State], State]:
    return lambda state: weights("large", **{**MAE, **sizes})


def headless(state: State) -> State:
    return without(state, "classifier")


# damage -> change of the MAE file, change of the head file, message
AUTOENCODERS: dict[str, tuple[Callable[[State], State], Callable[[State], State], str]] = {
    "encoder only": (
        lambda s: without(s, "decoder", "mask_token", "classifier"),
        dict,
        r"mae.pth holds an encoder without the decoder.*mae_pretrain_vit_large_full.pth",
    ),
    "encoder only, Hugging Face": (
        lambda s: {
            k.removeprefix("vit."): v for k, v in without(hugging_face(s, 2, 1), "decoder").items()
        },
        dict,
        r"mae.pth holds an encoder without the decoder.*facebook/vit-mae",
    ),
    "half a decoder": (
        lambda s: without(s, "decoder_pred", "classifier"),
        dict,
        r"2 missing \(decoder_pred.bias, decoder_pred.weight\)",
    ),
    "value projection missing": (
        lambda s: without(hugging_face(s, 2, 1), "layer.1.attention.attention.value.weight"),
        dict,
        r"missing \(blocks.1.attn.qkv.weight\).*blocks.1.attention.attention.key.weight",
    ),
    "head of another width": (
        headless,
        sized(embed_dim=8),
        r"classifier_embed.weight is \[12, 8\]",
    ),
    "head of other classes": (
        headless,
        sized(num_classes=10),
        r"pred.weight is \[10, 12\].*classes=",
    ),
    "head with NaN": (headless, lambda s: with_nan(s, "classifier_norm.bias"), r"NaN.*norm.bias"),
    "no head in the head file": (headless, headless, r"head.pth holds no head: .*probing wrote"),
    "two heads": (dict, dict, r"mae.pth already holds a head \(.*leave head='.*head.pth' out"),
}


@pytest.mark.parametrize("damage", AUTOENCODERS)
def test_damaged_autoencoders(tmp_path: Path, damage: str) -> None:
    body, probed, message = AUTOENCODERS[damage]
    state = weights("large", **MAE)
    path = saved(tmp_path / "mae.pth", {"model": body({k: v.clone() for k, v in state.items()})})
    head = saved(tmp_path / "head.pth", {"model": probed(state)})
    with pytest.raises(CheckpointError, match=message) as caught:
        zoo.load(path, preset="large", head=head, **MAE)
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)
