"""State-dict keys of released files and our own: pure renaming, whether they fit is checked later.

Formats: a bare state dict or one in a container (`state_dict`, `model`, `net` …), metrics beside
the weights; the prefixes of wrappers in any order (DataParallel, `torch.compile`, AveragedModel);
raw weights beside their moving average; the TTT-MAE heads; Hugging Face's ViTMAE.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

State = dict[str, Tensor]

CONTAINERS = (
    *("state_dict", "model", "model_state_dict", "model_state"),
    *("net", "network", "module", "params", "shadow"),
)
PREFIXES = (
    *("module.", "model.", "_orig_mod.", "net.", "network.", "backbone."),
    *("_forward_module.", "online_model."),
)
NORMALISATION = (("mu", "sigma"), ("normalize.mean", "normalize.std"))

_AVERAGE = re.compile(r"(.+_)?(ema|swa)(_.+)?")  # containers of averages: state_dict_ema, ema …
_AVERAGE_PREFIX = re.compile(r"(ema|model_ema|ema_model|module_ema|ema_module)\.")
_COUNTERS = ("n_averaged", "initted", "step", "decay", "num_updates")  # kept beside an average

# Of Hugging Face's ViTMAE: what is replaced in a key, in this order
_VIT_MAE = (
    (r"^vit\.embeddings\.cls_token$", "cls_token"),
    (r"^vit\.embeddings\.position_embeddings$", "pos_embed"),
    (r"^vit\.embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^vit\.layernorm\.", "norm."),
    (r"^vit\.encoder\.layer\.", "blocks."),
    (r"^decoder\.decoder_layers\.", "decoder_blocks."),
    (r"^decoder\.(?=mask_token|decoder_)", ""),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"\.attention\.attention\.qkv\.", ".attn.qkv."),
    (r"\.attention\.output\.dense\.", ".attn.proj."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"\.output\.dense\.", ".mlp.fc2."),
)
_QUERY = re.compile(r"(.+\.attention\.attention\.)query(\.\w+)")
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
_LINEAR_HEAD = {f"head.0.{name}": f"bn.{name}" for name in _STATISTICS}
_LINEAR_HEAD |= {"head.1.weight": "head.weight", "head.1.bias": "head.bias"}


class Weights(NamedTuple):
    """The tensors of a file, and which of its weights they are.

    `kind` is empty where the file holds one set of plain weights, else "raw (…)" or "average (…)"
    with the name under which the file has them.
    """

    state: State
    kind: str


def weights(content: Any, average: bool | None = None) -> Weights:
    """Return the weights of a file's content, under keys without container and prefixes.

    Entries that are no tensors (epochs, metrics, optimisers) are left out. Prefixes go only where a
    key starts with them, not where it contains them.

    Parameters
    ----------
    content
        What the file holds.
    average
        Which weights to take of a file that has both: their moving average (True), the raw ones
        (False), or the average where there is one (None).

    Raises
    ------
    ValueError
        When there is no state dict, or not the one that was asked for, or two keys become one.
    """
    if not isinstance(content, Mapping):
        raise ValueError(f"holds a {type(content).__name__}, not a state dict")
    sets = list(_sets(content))
    if not sets:
        others = [str(k) for k, v in content.items() if not torch.is_tensor(v)]
        raise ValueError(
            f"holds no state dict: {len(others)} of its {len(content)} entries are no tensors "
            f"({', '.join(others[:3])}{', …' if len(others) > 3 else ''})"
        )
    kinds = {one.average for one in sets}
    wanted = (True in kinds) if average is None else average
    if wanted not in kinds:
        have, lacking = ("raw", "moving average") if wanted else ("averaged", "raw")
        raise ValueError(f"holds {have} weights and no {lacking} ones; leave average={average} out")
    chosen = next(one for one in sets if one.average == wanted)
    kind = f"{'average' if wanted else 'raw'} ({chosen.name})"
    return Weights(chosen.state, kind if True in kinds else "")


class _Set(NamedTuple):
    name: str
    average: bool
    state: State


def _sets(content: Mapping[Any, Any], name: str = "", average: bool = False) -> Iterator[_Set]:
    """Find the sets of weights in nested containers, the more usual names first."""
    inside = [k for k in CONTAINERS if isinstance(content.get(k), Mapping)]
    inside += [
        k for k, v in content.items() if _AVERAGE.fullmatch(str(k)) and isinstance(v, Mapping)
    ]
    nested = [s for k in inside for s in _sets(content[k], k, average or k not in CONTAINERS)]
    if nested:
        yield from nested
        return
    averaged = {k: v for k, v in content.items() if _AVERAGE_PREFIX.match(str(k))}
    if averaged:  # both in one state dict, told apart by their prefixes
        stripped = {_AVERAGE_PREFIX.sub("", k, count=1): v for k, v in averaged.items()}
        yield _Set(str(next(iter(averaged))).partition(".")[0], True, _state(stripped))
    state = _state({k: v for k, v in content.items() if k not in averaged})
    is_average = "n_averaged" in state  # torch.optim.swa_utils.AveragedModel
    if averaged or is_average:
        state = {k: v for k, v in state.items() if k not in _COUNTERS}
    if state:
        yield _Set(name or ("AveragedModel" if is_average else "raw"), average or is_average, state)


def _state(content: Mapping[Any, Any]) -> State:
    """Return the tensors of a flat state dict, under keys without prefixes."""
    state: State = {}
    for key, value in content.items():
        if isinstance(value, np.ndarray) and value.dtype.kind in "fiu":
            value = torch.from_numpy(value.copy())
        if not (isinstance(key, str) and torch.is_tensor(value)):
            continue
        name = key
        while prefix := next((p for p in PREFIXES if name.startswith(p)), ""):
            name = name.removeprefix(prefix)
        if name in state:
            raise ValueError(f"holds {name} twice, with and without the prefix of {key}")
        state[name] = value
    return state


def is_hugging_face(state: Mapping[str, Tensor]) -> bool:
    """Tell whether the keys are those of Hugging Face's ViTMAE, with a decoder or without."""
    return any(key.startswith(("vit.", "embeddings.")) for key in state)


def from_hugging_face(state: Mapping[str, Tensor]) -> State:
    """Rename Hugging Face's ViTMAE keys to the released MAE ones; query, key and value become qkv.

    Keys that are not part of ViTMAE fit nothing then. The encoder alone (`ViTMAEModel`) is saved
    without the leading `vit.`. Hugging Face's configuration has LayerNorm eps 1e-12 where the
    released network and ours have 1e-6; the weights are the same.
    """
    if not any(key.startswith("vit.") for key in state):
        state = {k if k.startswith("decoder.") else f"vit.{k}": v for k, v in state.items()}
    renamed: State = {}
    for key, tensor in _fused(state).items():
        for theirs, ours in _VIT_MAE:
            key = re.sub(theirs, ours, key)
        renamed[key] = tensor
    return renamed


def _fused(state: Mapping[str, Tensor]) -> State:
    """Stack query, key and value of each layer as qkv, where all three are there and alike."""
    fused = dict(state)
    for query in filter(None, map(_QUERY.fullmatch, state)):
        names = [f"{query[1]}{part}{query[2]}" for part in ("query", "key", "value")]
        parts = [state[name] for name in names if name in state]
        if len(parts) == 3 and len({part.shape for part in parts}) == 1:
            fused[f"{query[1]}qkv{query[2]}"] = torch.cat(parts)
            for name in names:
                del fused[name]
    return fused


def head(state: Mapping[str, Tensor]) -> State:
    """Return the classifier alone of a probed checkpoint, under our keys; empty without one.

    A ViT head is every key starting with `classifier`. A linear head is MAE's Sequential of batch
    norm and linear layer (`head.0`, `head.1`), or already `bn` and `head`.
    """
    vit = {k: v for k, v in state.items() if k.startswith("classifier")}
    linear = {ours: state[theirs] for theirs, ours in _LINEAR_HEAD.items() if theirs in state}
    ours = {k: state[k] for k in _LINEAR_HEAD.values() if k in state}
    return vit or linear or ours


def head_type(state: Mapping[str, Tensor]) -> str:
    """Return which head these keys hold, "vit_head", "linear" or "none"."""
    if any(k.startswith("classifier") for k in state):
        return "vit_head"
    return "linear" if "head.weight" in state or "bn.running_mean" in state else "none"
