"""What identifies a network in result rows: its content, not its name.

A network that was loaded keeps the hash of its file as long as nothing of it was changed. Every
other network is identified by its tensors, its structure and the source of its own classes.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import inspect
from collections.abc import Iterator, Mapping
from types import CodeType, FunctionType, NoneType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

_LIBRARIES = ("builtins", "torch", "torchvision", "timm", "tttlib")


def remember(model: Any) -> Any:
    """Note the content of a network that has just been loaded, and return it."""
    model._loaded_content = content_hash(model, but=("card",))
    return model


def weights_of(model: nn.Module) -> str:
    """Return 16 hex digits that stand for a network's weights in result rows.

    They are those of the card, the hash of the file that was loaded. A network without a card, or
    that was changed since it was loaded, has those of `content_hash`.
    """
    card: dict[str, Any] = getattr(model, "card", {})
    loaded = getattr(model, "_loaded_content", None)
    if "weights_sha256" in card and loaded in (None, content_hash(model, but=("card",))):
        return card["weights_sha256"]
    return content_hash(model)


def tensors_hash(model: nn.Module) -> str:
    """Return 16 hex digits of the sha256 of all parameters and buffers, with their names."""
    digest = hashlib.sha256()
    for name, tensor in _tensors(model):
        digest.update(name.replace("_orig_mod.", "").encode())  # of torch.compile
        digest.update(_bytes(tensor))
    return digest.hexdigest()[:16]


def content_hash(model: nn.Module, but: tuple[str, ...] = ()) -> str:
    """Return 16 hex digits that differ between any two networks that may answer differently.

    They depend on all parameters and buffers, on the class and the plain attributes of every
    module, and on the source of the classes that belong to none of the libraries used here. They
    are the same in another process and on another device. Attributes named in `but` do not count.
    """
    digest = hashlib.sha256(tensors_hash(model).encode())
    classes: dict[str, type] = {}
    for name, module in model.named_modules():
        classes |= {f"{c.__module__}.{c.__qualname__}": c for c in type(module).__mro__}
        ignored = ("training", *but)
        settings = {k: v for k, v in vars(module).items() if k[0] != "_" and k not in ignored}
        parts = (name, type(module).__qualname__, _described(settings), module.extra_repr())
        digest.update(" ".join(parts).encode())
        if isinstance(module, torch.jit.ScriptModule):
            with contextlib.suppress(RuntimeError, AttributeError):  # no forward
                digest.update(module.code.encode())
    for _, kind in sorted(classes.items()):
        if kind.__module__.split(".")[0] not in _LIBRARIES:
            digest.update(_source(kind).encode())
    return digest.hexdigest()[:16]


def _tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield the parameters and all buffers, those outside the state dict too."""
    yield from model.named_parameters(remove_duplicate=False)
    yield from model.named_buffers(remove_duplicate=False)


def _described(value: Any) -> str:
    """Return an attribute of a module as text: settings, functions and tensors by their content."""
    if isinstance(value, Mapping):
        return _described([f"{key}: {_described(value[key])}" for key in sorted(value, key=str)])
    if isinstance(value, list | tuple | set | frozenset):
        texts = [_described(one) for one in value]
        return str(sorted(texts) if isinstance(value, set | frozenset) else texts)
    if isinstance(value, functools.partial):
        return _described([value.func, value.args, value.keywords])
    if isinstance(value, torch.Tensor | np.ndarray):
        return _bytes(torch.as_tensor(value)).hex()
    if isinstance(value, FunctionType):
        return f"{value.__module__}.{value.__qualname__} {_code(value.__code__)}"
    plain = isinstance(value, bool | int | float | str | torch.dtype | NoneType)
    return repr(value) if plain else getattr(value, "__qualname__", type(value).__qualname__)


def _source(kind: type) -> str:
    """Return the source of a class, or the code of its methods where the source is not known."""
    try:
        return inspect.getsource(kind)
    except (OSError, TypeError):
        methods = [m for m in vars(kind).values() if isinstance(m, FunctionType)]
        return " ".join(_code(method.__code__) for method in methods)


def _code(code: CodeType) -> str:
    constants = [_code(c) if isinstance(c, CodeType) else repr(c) for c in code.co_consts]
    return f"{code.co_code.hex()} {code.co_names} {constants}"


def _bytes(tensor: Tensor) -> bytes:
    plain = tensor.detach().cpu().contiguous()
    content = plain.reshape(-1).view(torch.uint8).numpy().tobytes()
    return f" {plain.dtype} {tuple(plain.shape)} ".encode() + content
