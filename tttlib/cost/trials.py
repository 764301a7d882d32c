"""What is timed and counted: the network of a task, its images, and one call of its method."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tttlib import adapt, corruptions, data
from tttlib.data.photographs import pictures
from tttlib.evaluate.matching_ttt import engine
from tttlib.models import MaskedAutoencoder, zoo
from tttlib.runtime.devices import best_device

_log = logging.getLogger(__name__)
_DOMAINS = ("gaussian_noise", "defocus_blur", "contrast", "fog")


def network(s: Mapping[str, Any]) -> Any:
    """The network of a task; with random weights where its file is not there."""
    return _network(s["model"], s.get("preset"), s.get("head"))


def forget_networks() -> None:
    """Load them anew next time."""
    _network.cache_clear()


@functools.lru_cache(maxsize=2)
def _network(name: str, preset: str | None, head: str | None) -> Any:
    device = best_device()
    try:
        return zoo.load(name, preset=preset, head=head, device=device)
    except (FileNotFoundError, ValueError):
        known = preset if preset in zoo.PRESETS else name.partition(":")[0]  # PRESET:FILE
        if known not in zoo.PRESETS:
            raise
        torch.manual_seed(0)
        return zoo.create(known).to(device).eval()


def together_of(s: Mapping[str, Any]) -> int:
    """Images adapted at once; where it is left open, what is typical."""
    if s.get("together"):
        return s["together"]
    if isinstance(network(s), MaskedAutoencoder):
        return 8
    return 1 if best_device().type == "cpu" else 16


def adapter_of(s: Mapping[str, Any]) -> adapt.Adapter:
    """The adaptation method of a task; EcoTTA without its warm-up, which costs extra."""
    constants: dict[str, Any] = dict(s.get("constants") or {})
    if s["method"] == "ecotta":
        constants["source"] = data.load("scenes", "train").sample(64)
        constants["warm_up"] = {"epochs": 0}
    return adapt.create(s["method"], network(s), preset=s.get("constants_of"), **constants)


def images_like(s: Mapping[str, Any], n: int) -> list[Tensor]:
    """Batches [n,3,size,size] of corrupted images, each under another corruption."""
    return [
        corruptions.corrupt(pictures_of(s["size"], n, s.get("dataset", "")), name, 5)
        for name in _DOMAINS
    ]


@functools.lru_cache(maxsize=8)
def pictures_of(size: int, n: int, dataset: str = "") -> Tensor:
    """[n,3,size,size] in [0,1]: of scenes, else photographs. Not to be written to."""
    if dataset == "scenes":
        return _scenes()[:n].float() / 255
    return pictures(size, n).float() / 255


@functools.cache
def _scenes() -> Tensor:
    return torch.as_tensor(data.load("scenes", "test").sample(1000, 1).images[:])


def adapted(
    model: nn.Module,
    s: Mapping[str, Any],
    masks: int,
    n: int,
    steps: int,
    at: Sequence[int],
    online: bool = False,
) -> None:
    """One call of the network's own test-time training."""
    _, run = engine(model)  # type: ignore[arg-type]
    names = ("optimizer", "mask_ratio", "finetune", "autocast", "reset_optimizer", "calm")
    given = {k: s[k] for k in names if k in s}
    images = pictures_of(s["size"], n)
    how: dict[str, Any] = {"online": True} if online else {"parallel": n}
    run(model, images, steps=steps, batch_size=masks, lr=1e-4, evaluate_at=at, **how, **given)


def native(s: Mapping[str, Any]) -> Mapping[str, Any]:
    """The settings without an autocast that this processor only emulates."""
    name = s.get("autocast")
    if not name or best_device().type != "cpu" or not _emulated(name):
        return s
    return {key: value for key, value in s.items() if key != "autocast"}


@functools.cache
def _emulated(name: str) -> bool:
    """Whether matrix products in this dtype take much longer than in float32, told once."""
    a, b = (torch.ones(256, 256, dtype=dtype) for dtype in (getattr(torch, name), torch.float32))

    def seconds(m: Tensor) -> float:
        m @ m  # warms up
        start = time.perf_counter()
        m @ m
        return time.perf_counter() - start

    slower = seconds(a) / seconds(b)
    if slower > 4:
        _log.warning(
            "%s is emulated on this processor, %.0f times slower than float32; the plan counts the "
            "work in float32",
            name,
            slower,
        )
    return slower > 4
