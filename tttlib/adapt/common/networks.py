"""Networks as they come: what an adapter can work with, copies of them and of their state."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tttlib.models.normalised import logits_of

_WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel)
_COARSE = (torch.float16, torch.bfloat16)


def taken_over(model: nn.Module, *, learns: bool) -> nn.Module:
    """Return a copy of the caller's network, see `copy_of`, that answers with logits alone.

    Wrappers for several devices or for compilation are left behind. An answer with an attribute or
    a key `logits` is that, in at least single precision; any other answer than [B,C] with two or
    more classes is a ValueError at the first call.

    Parameters
    ----------
    model
        Any module that maps images [B,3,H,W] to logits [B,C].
    learns
        Whether its parameters will move, for which half precision is too coarse.

    Raises
    ------
    ValueError
        For a network that cannot be worked with; the message says what to pass instead.
    """
    if not isinstance(model, nn.Module):
        raise ValueError(f"the network must be a torch.nn.Module, not {type(model).__name__}")
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        why = "a TorchScript network hides its layers, which adaptation changes"
        raise ValueError(f"{why}; pass the module it was made from")
    if next(model.parameters(), None) is None:
        raise ValueError(f"the network, a {type(model).__name__}, has no parameters")
    coarse = [p.dtype for p in model.parameters() if p.dtype in _COARSE]
    if learns and coarse:
        raise ValueError(
            f"updates vanish in {coarse[0]}: pass the network in single precision, .float(), and "
            f"call the adapter inside torch.autocast where speed matters"
        )
    network = copy_of(_unwrapped(model))
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if (inner := _unwrapped(child)) is not child:
                setattr(parent, name, inner)
    network.register_forward_hook(_logits_only)
    return network


def _unwrapped(module: nn.Module) -> nn.Module:
    """Return what torch.compile, or training on several devices, was given."""
    compiled: Any = getattr(module, "_orig_mod", None)
    if compiled is None and isinstance(module, _WRAPPERS):
        return _unwrapped(module.module)
    return module if compiled is None else _unwrapped(compiled)


def _logits_only(module: nn.Module, inputs: tuple[Any, ...], answer: Any) -> Tensor:
    """Return the logits [B,C] of an answer, or say what it is instead."""
    kind = type(answer).__name__
    logits, remedy = logits_of(answer), "wrap it in a module whose forward returns logits [B,C]"
    if logits is None:
        raise ValueError(f"the network answers with a {kind} without logits; {remedy}")
    shape, count = list(logits.shape), len(inputs[0])
    if len(shape) != 2 or shape[0] != count or shape[1] < 2 or not logits.is_floating_point():
        what = f"the network answers {count} images with {logits.dtype} {shape}"
        raise ValueError(f"{what}, which are no logits of two or more classes; {remedy}")
    return logits.float() if logits.dtype in _COARSE else logits


def copy_of(model: nn.Module) -> nn.Module:
    """Return a copy in eval mode whose parameters are frozen and carry no gradients."""
    copied = copy.deepcopy(model).eval().requires_grad_(False)
    for parameter in copied.parameters():
        parameter.grad = None
    return copied


def memory_format(model: nn.Module) -> torch.memory_format:
    """Return channels last if the convolutions have it (`model.to(memory_format=…)`)."""
    last = torch.channels_last
    weights = [p for p in model.parameters() if p.ndim == 4 and not p.is_contiguous()]
    channels_last = any(p.is_contiguous(memory_format=last) for p in weights)
    return last if channels_last else torch.contiguous_format


def snapshot(value: Any, device: torch.device | None = None) -> Any:
    """Return a copy of nested dicts, lists and tuples in which tensors are copied, too."""
    if isinstance(value, Tensor):
        return value.detach().to(device or value.device, copy=True)
    if isinstance(value, Mapping):
        return {name: snapshot(item, device) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(snapshot(item, device) for item in value)
    return value
