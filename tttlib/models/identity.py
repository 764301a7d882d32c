"""Which network a row of results comes from: a fingerprint of what the network computes with."""

from __future__ import annotations

import hashlib
import re
from typing import Any

import torch
from torch import nn


def content_hash(model: nn.Module) -> str:
    """Return 16 hex digits that name the weights and the structure of a network.

    They cover the class and the settings of every layer, and names, shapes, number formats and
    values of all parameters and buffers, also of those that the state dict leaves out (`mean` and
    `std`). Device, memory format and training mode have no part in it.
    """
    digest = hashlib.blake2b(digest_size=8)
    for name, layer in model.named_modules():
        text = f"{name}:{type(layer).__qualname__}({layer.extra_repr()})\n"
        digest.update(re.sub(r" at 0x[0-9a-f]+", "", text).encode())
    values: dict[str, Any] = {**dict(model.named_buffers()), **model.state_dict()}
    for name in sorted(values):
        value = values[name]
        if not torch.is_tensor(value):  # extra state of a layer
            digest.update(f"{name} {value!r}\n".encode())
            continue
        digest.update(f"{name} {value.dtype} {list(value.shape)}\n".encode())
        data = value.detach().cpu().contiguous().reshape(-1)
        digest.update(data.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def remember(model: Any) -> None:
    """Note the content of a network as loaded, which its card describes."""
    model.loaded_content = content_hash(model)


def weights_identity(model: nn.Module) -> str:
    """Return what results of a network are traced to, 16 hex digits.

    The `weights_sha256` of its card, if it has one and computes with what was loaded; else its
    `content_hash`: a network of the caller's own, or one whose weights were changed.
    """
    model = getattr(model, "_orig_mod", model)  # torch.compile changes no number that is stored
    stated = getattr(model, "card", {}).get("weights_sha256")
    loaded = getattr(model, "loaded_content", None)
    if stated and loaded is None:  # a card that the caller wrote
        return str(stated)
    content = content_hash(model)
    return str(stated) if stated and content == loaded else content
