"""Bytes that a task holds at its peak, from what a backward pass of a small one keeps.

The tensors that autograd saves are counted as they come and go (hooks on saved tensors), so the
account is of the arithmetic and holds for a GPU as for this machine. Beside them count the weights,
and for every image or method its own copies of them, its momenta and gradients. Not counted: what
the libraries of a process take, and on a GPU its context.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from tttlib import ttt
from tttlib.cost.trials import (
    adapted,
    adapter_of,
    images_like,
    native,
    network,
    pictures_of,
    together_of,
)
from tttlib.cost.work import Task
from tttlib.models import MaskedAutoencoder
from tttlib.ttt import rotation
from tttlib.ttt.batching import masks_at_once

_WORK_SPACE = 1.25  # of operations, and what an allocator rounds up; ten cases on a CPU


def bytes_of(task: Task) -> float:
    """At the peak; 0 for tasks that need little (corruption, decoding, loading).

    An autocast that this machine only emulates is counted in float32: an upper bound.
    """
    s = native(task.values)
    if task.kind in ("step", "arrival"):
        return _WORK_SPACE * _ttt(s, together_of(s) if task.kind == "step" else 1)
    if task.kind == "batch":
        return _WORK_SPACE * _adaptation(s)
    if task.kind == "forward":
        return _WORK_SPACE * _forward(s)
    return 0.0


def _ttt(s: Mapping[str, Any], together: int) -> float:
    """Weights once; per image copies of the trained ones and what b masks keep."""
    model, b = network(s), s["batch_size"]
    if isinstance(model, MaskedAutoencoder):
        names = ttt.trained_parameters(model, s.get("finetune", "encoder"))
        b = masks_at_once(model, b, model.num_visible(s.get("mask_ratio", 0.75)))
        copies = 2 if s.get("optimizer", "sgd") == "sgd" else 4
    else:
        names, copies = rotation.trained_parameters(model, s.get("finetune", "all")), 3
    own = _size([model.get_parameter(name) for name in names])
    one, two = (kept(partial(adapted, model, s, masks, 1, 1, (1,))) for masks in (1, 2))
    return (
        _size(model.state_dict().values()) + own + together * (copies * own + b * max(0, two - one))
    )


def _adaptation(s: Mapping[str, Any]) -> float:
    """The method's networks and their initial state, gradients, and what B images keep."""
    adapter = adapter_of(s)
    adapter(images_like(s, 2)[0])
    two, four = (
        kept(partial(adapter, images_like(s, n)[1]), adapter.networks.values()) for n in (2, 4)
    )
    state = 2 * _size(_tensors(adapter.state_dict()))
    each = max(0.0, (four - two) / 2)
    fixed = max(0.0, two - 2 * each)
    images = 4.0 * 3 * s["size"] ** 2 * s["batch_size"]
    return (
        state
        + _size(network(s).parameters())
        + _size(adapter.parameters)
        + fixed
        + images
        + (s["batch_size"] * each)
    )


def _forward(s: Mapping[str, Any]) -> float:
    """Weights and the three largest outputs of a layer."""
    model = network(s)
    sizes: list[float] = []

    def note(_: nn.Module, __: Any, out: Any) -> None:
        if isinstance(out, Tensor):
            sizes.append(_size([out]))

    hooks = [module.register_forward_hook(note) for module in model.modules()]
    try:
        with torch.no_grad():
            model.classify(pictures_of(s["size"], 1).to(next(model.parameters()).device))
    finally:
        for hook in hooks:
            hook.remove()
    return _size(model.state_dict().values()) + 3.0 * s["batch_size"] * max(sizes, default=0)


def kept(work: Callable[[], object], networks: Iterable[nn.Module] = ()) -> int:
    """Most bytes that `work` holds for backward passes at a time, without the networks' weights."""
    apart = {p.untyped_storage().data_ptr() for n in networks for p in n.parameters()}
    held: dict[int, int] = {}
    now = most = 0

    class Held:
        """A saved tensor; gives its bytes back when the graph lets it go."""

        def __init__(self, tensor: Tensor) -> None:
            nonlocal now, most
            storage = tensor.untyped_storage()
            self.tensor, self.place, self.size = tensor, storage.data_ptr(), storage.nbytes()
            if self.place in apart:
                self.size = 0
            held[self.place] = held.get(self.place, 0) + 1
            if held[self.place] == 1:
                now += self.size
                most = max(most, now)

        def __del__(self) -> None:
            nonlocal now
            held[self.place] -= 1
            if not held[self.place]:
                now -= self.size

    with torch.autograd.graph.saved_tensors_hooks(Held, lambda h: h.tensor):
        work()
    return most


def _size(tensors: Iterable[Tensor]) -> float:
    return float(sum(math.prod(t.shape) * t.element_size() for t in tensors))


def _tensors(value: Any) -> Iterable[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _tensors(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _tensors(one)
