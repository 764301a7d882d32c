"""State-dict keys of released files -> ours. Pure renaming; whether they fit is checked elsewhere.

Formats: a bare state dict or one under `state_dict` or `model`; prefixes `module.` (DataParallel)
and `model.` (wrapper with the normalisation inside); the TTT-MAE heads; Hugging Face's ViTMAE.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

State = dict[str, Tensor]

CONTAINERS = ("state_dict", "model")
PREFIXES = ("module.", "model.")  # in this order
NORMALISATION = (("mu", "sigma"), ("normalize.mean", "normalize.std"))

_LAYER = re.compile(r"(vit\.encoder\.layer|decoder\.decoder_layers)\.(\d+)\.(.+)\.(weight|bias)")
_STACKS = {"vit.encoder.layer": "blocks", "decoder.decoder_layers": "decoder_blocks"}
_LAYER_PARTS = {
    "layernorm_before": "norm1",
    "attention.output.dense": "attn.proj",
    "layernorm_after": "norm2",
    "intermediate.dense": "mlp.fc1",
    "output.dense": "mlp.fc2",
}
_QKV = ("query", "key", "value")
_OUTSIDE = {
    "vit.embeddings.cls_token": "cls_token",
    "vit.embeddings.position_embeddings": "pos_embed",
    "vit.embeddings.patch_embeddings.projection": "patch_embed.proj",
    "vit.layernorm": "norm",
    "decoder.mask_token": "mask_token",
    "decoder.decoder_pos_embed": "decoder_pos_embed",
    "decoder.decoder_embed": "decoder_embed",
    "decoder.decoder_norm": "decoder_norm",
    "decoder.decoder_pred": "decoder_pred",
}
_LINEAR_HEAD = {
    "head.0.running_mean": "bn.running_mean",
    "head.0.running_var": "bn.running_var",
    "head.0.num_batches_tracked": "bn.num_batches_tracked",
    "head.1.weight": "head.weight",
    "head.1.bias": "head.bias",
}


def state_dict(content: Any) -> State:
    """The tensors of a file's content, under keys without container and prefixes.

    A prefix goes only where a key starts with it (not where it occurs). Raises ValueError when
    there is no state dict, or two keys become one.
    """
    if not isinstance(content, Mapping):
        raise ValueError(f"holds a {type(content).__name__}, not a state dict")
    for container in CONTAINERS:
        if isinstance(content.get(container), Mapping):
            content = content[container]
            break
    others = [str(k) for k, v in content.items() if not (isinstance(k, str) and torch.is_tensor(v))]
    if others or not content:
        raise ValueError(
            f"holds no state dict: {len(others)} of its {len(content)} entries are no tensors "
            f"({', '.join(others[:3])}{', …' if len(others) > 3 else ''})"
        )
    found: State = {}
    for key, tensor in content.items():
        name = key
        for prefix in PREFIXES:
            name = name.removeprefix(prefix)
        if name in found:
            raise ValueError(f"holds {name} twice, with and without the prefix of {key}")
        found[name] = tensor
    return found


def is_hugging_face(state: Mapping[str, Tensor]) -> bool:
    """Whether the keys are those of Hugging Face's ViTMAE, with a decoder or without."""
    return any(key.startswith(("vit.", "embeddings.")) for key in state)


def from_hugging_face(state: Mapping[str, Tensor]) -> State:
    """Hugging Face's ViTMAE keys -> the released MAE ones; query, key and value become qkv.

    Keys that are not part of ViTMAE stay as they are. The encoder alone (`ViTMAEModel`) is saved
    without the leading `vit.`. Hugging Face's configuration has LayerNorm eps 1e-12 where the
    released network and ours have 1e-6; the weights are the same.
    """
    if not any(key.startswith("vit.") for key in state):
        state = {k if k.startswith("decoder.") else f"vit.{k}": v for k, v in state.items()}
    found: State = {}
    for key, tensor in state.items():
        outside, _, last = key.rpartition(".")
        if layer := _LAYER.fullmatch(key):
            stack, index, part, kind = layer.groups()
            block = f"{_STACKS[stack]}.{index}"
            if part in _LAYER_PARTS:
                found[f"{block}.{_LAYER_PARTS[part]}.{kind}"] = tensor
            elif part == "attention.attention.query" and (fused := _fused(state, key)) is not None:
                found[f"{block}.attn.qkv.{kind}"] = fused
            elif _fused(state, key) is None:
                found[key] = tensor
        elif key in _OUTSIDE:
            found[_OUTSIDE[key]] = tensor
        elif outside in _OUTSIDE:
            found[f"{_OUTSIDE[outside]}.{last}"] = tensor
        else:
            found[key] = tensor
    return found


def _fused(state: Mapping[str, Tensor], key: str) -> Tensor | None:
    """Query, key and value of one layer under each other; None unless all are there and alike."""
    stem, part, kind = key.rsplit(".", 2)
    parts = [state[k] for k in (f"{stem}.{name}.{kind}" for name in _QKV) if k in state]
    if part not in _QKV or len(parts) < 3 or len({p.shape for p in parts}) > 1:
        return None
    return torch.cat(parts)


def head(state: Mapping[str, Tensor]) -> State:
    """Only the classifier of a probed checkpoint, under our keys; empty when it has none.

    A ViT head is every key starting with `classifier`. A linear head is MAE's Sequential of batch
    norm and linear layer (`head.0`, `head.1`), or already `bn` and `head`.
    """
    vit = {k: v for k, v in state.items() if k.startswith("classifier")}
    linear = {ours: state[theirs] for theirs, ours in _LINEAR_HEAD.items() if theirs in state}
    ours = {k: state[k] for k in _LINEAR_HEAD.values() if k in state}
    return vit or linear or ours


def head_type(state: Mapping[str, Tensor]) -> str:
    """What these keys hold, as `MaskedAutoencoder` calls it: "vit_head", "linear" or "none"."""
    if any(k.startswith("classifier") for k in state):
        return "vit_head"
    return "linear" if "head.weight" in state or "bn.running_mean" in state else "none"
