"""Copies of networks and of their state."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


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
