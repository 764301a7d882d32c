"""What adapting to a batch costs, in forward passes of the source network."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import Tensor, nn

from tttlib import adapt
from tttlib.runtime import flops

BATCHES = 3  # the first is not counted: methods fill their memories


def forward_equivalents(
    model: nn.Module,
    images: Tensor,
    method: str,
    *,
    preset: str | None = None,
    given: Mapping[str, Any] | None = None,
    **constants: Any,
) -> float:
    """Return the floating-point operations of adapting to a batch, over those of answering it.

    Operations are those of convolutions and matrix products, so the number is the same on every
    machine; forward and backward passes and views count alike. Methods that learn from a part of
    the images, or at intervals, vary from batch to batch: the mean over two batches is returned.

    Parameters
    ----------
    model
        The source network.
    images
        [3 B,3,H,W] or more; the first three batches of B are used.
    method, preset, given, **constants
        As in `adaptation`.

    Raises
    ------
    ValueError
        For fewer than three images, and as `adapt.create`.
    """
    if len(images) < BATCHES:
        raise ValueError(f"{BATCHES} batches need at least {BATCHES} images, not {len(images)}")
    first, *batches = itertools.islice(images.split(len(images) // BATCHES), BATCHES)
    source = adapt.create("source", model)
    adapter = adapt.create(method, model, preset=preset, **(given or {}), **constants)
    adapter(first)
    once = [flops.count(partial(source, batch)) for batch in batches]
    adapting = [flops.count(partial(adapter, batch)) for batch in batches]
    return sum(adapting) / sum(once)
