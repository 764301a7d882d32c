"""Gradients of convolutions' weights, computed apart from the backward pass, whole or in part.

A weight's gradient needs the layer's input and the gradient at its output. A backward pass to the
outputs instead of the weights leaves the choice of whose gradient is computed, and for how many
output channels, until these are there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass
class Tap:
    """What went into and came out of a convolution."""

    layer: nn.Conv2d
    x: Tensor
    y: Tensor
    version: int
    calls: int = 1

    @property
    def usable(self) -> bool:
        """The layer ran once, and nothing has overwritten its output."""
        return self.calls == 1 and self.y._version == self.version

    def gradient(self, dy: Tensor, share: float = 1.0) -> Tensor:
        """Of the weight [out,in,k,k], from that at the output; or of some output channels.

        share  of the channels, those with the largest |dy|
        """
        weight = self.layer.weight.detach()
        keep = max(1, int(share * len(weight)))
        if keep < len(weight):
            channels = dy.abs().sum((0, 2, 3)).topk(keep).indices
            dy, weight = dy.index_select(1, channels), weight.index_select(0, channels)
        how = (self.layer.stride, self.layer.padding, self.layer.dilation)
        wanted = (False, True, False)
        return torch.ops.aten.convolution_backward(
            dy, self.x, weight, None, *how, False, (0, 0), 1, wanted
        )[1]


@contextmanager
def tapped(model: nn.Module) -> Iterator[dict[str, Tap]]:
    """The taps of all convolutions that run inside, by the names of their weights.

    Without those in groups or with padding by other than zeros.
    """
    taps: dict[str, Tap] = {}

    def hook(name: str) -> object:
        def keep(layer: nn.Conv2d, inputs: tuple[Tensor], y: Tensor) -> None:
            calls = taps[name].calls + 1 if name in taps else 1
            taps[name] = Tap(layer, inputs[0].detach(), y, y._version, calls)

        return keep

    handles = [
        module.register_forward_hook(hook(f"{name}.weight".lstrip(".")))  # type: ignore[arg-type]
        for name, module in model.named_modules()
        if type(module) is nn.Conv2d
        and module.groups == 1
        and module.padding_mode == "zeros"
        and not isinstance(module.padding, str)
    ]
    try:
        yield taps
    finally:
        for handle in handles:
            handle.remove()
