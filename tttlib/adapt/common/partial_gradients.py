"""Gradients of convolutions' weights apart from the backward pass, as far as a decision needs them.

The gradient of a weight needs the layer's input and the gradient at its output. A backward pass to
the outputs instead of the weights leaves the choice of whose gradient is computed, and for how many
output channels, until these are there. A norm over some channels is a lower bound of the whole one:
if the part is too large already, the rest need not be computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tttlib.runtime.devices import read_back

PART = 0.25
"""Share of the output channels that an unlikely convolution is tried with."""


@dataclass
class Tap:
    """What went into a convolution, `x`, and what came out of it, `y`."""

    layer: nn.Conv2d
    x: Tensor
    y: Tensor
    version: int
    calls: int = 1

    @property
    def usable(self) -> bool:
        """Whether the layer ran once, and nothing has overwritten its output."""
        return self.calls == 1 and self.y._version == self.version

    def gradient(self, dy: Tensor, share: float = 1.0) -> Tensor:
        """Return the gradient of the weight, shape [out,in,k,k], given the one at its output.

        Parameters
        ----------
        dy
            Gradient at the output, [B,out,h,w].
        share
            How many of the output channels are computed: those with the largest |dy|.
        """
        layer, weight = self.layer, self.layer.weight.detach()
        keep = max(1, int(share * len(weight)))
        if keep < len(weight):
            channels = dy.abs().sum((0, 2, 3)).topk(keep).indices
            dy, weight = dy.index_select(1, channels), weight.index_select(0, channels)
        geometry = (layer.stride, layer.padding, layer.dilation, False, (0, 0), 1)
        x = self.x.to(dy.dtype)  # which differs inside autocast
        gradient = torch.ops.aten.convolution_backward(
            dy, x, weight.to(dy.dtype), None, *geometry, (False, True, False)
        )[1]
        return gradient.to(weight.dtype)


@contextmanager
def tapped(model: nn.Module) -> Iterator[dict[str, Tap]]:
    """Record the convolutions that run inside; yields their taps by the names of their weights.

    Convolutions in groups, or padded by other than zeros, are left out.
    """
    taps: dict[str, Tap] = {}

    def hook(name: str) -> Callable[..., None]:
        def keep(layer: nn.Conv2d, inputs: tuple[Tensor], y: Tensor) -> None:
            calls = taps[name].calls + 1 if name in taps else 1
            taps[name] = Tap(layer, inputs[0].detach(), y, y._version, calls)

        return keep

    handles = [
        module.register_forward_hook(hook(f"{name}.weight".lstrip(".")))
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


class Selection(NamedTuple):
    """Which of n tensors were selected by the L1 norms of their gradients.

    Attributes
    ----------
    score
        L1 norms [n]; of a convolution that is not selected perhaps only a lower bound.
    selected
        bool [n], on the device.
    chosen
        The same as a list of the host.
    gradients
        One tensor each; of a convolution that is not selected perhaps only some channels.
    """

    score: Tensor
    selected: Tensor
    chosen: list[bool]
    gradients: list[Tensor]


def select_by_norm(
    loss: Tensor,
    parameters: Mapping[str, Tensor],
    taps: Mapping[str, Tap],
    likely: Sequence[bool],
    judge: Callable[[Tensor], Tensor],
) -> Selection:
    """Differentiate `loss` and let `judge` select tensors by the L1 norms of their gradients.

    Parameters
    ----------
    loss
        Scalar; its graph is kept.
    parameters
        The n tensors by name.
    taps
        Of the forward pass that led to `loss`, see `tapped`.
    likely
        Who will probably be selected. The convolutions that will not are tried with `PART` of
        their gradient first.
    judge
        Maps scores [n] to bool [n]; a larger score must never help to be selected.
    """
    usable = {n: taps[name] for n, name in enumerate(parameters) if name in taps}
    usable = {n: tap for n, tap in usable.items() if tap.usable}
    inputs = [usable[n].y if n in usable else p for n, p in enumerate(parameters.values())]
    g = list(torch.autograd.grad(loss, inputs, retain_graph=True, materialize_grads=True))
    convolutions = {n: (tap, g[n]) for n, tap in usable.items()}
    for n, (tap, dy) in convolutions.items():
        g[n] = tap.gradient(dy, 1.0 if likely[n] else PART)
    tried = [n for n in convolutions if not likely[n]]
    while True:
        score = torch.stack(list(torch._foreach_norm(g, ord=1)))  # [n]
        selected = judge(score)
        chosen = read_back(selected)()
        unsure = [n for n in tried if chosen[n]]
        if not unsure:
            return Selection(score, selected, chosen, g)
        for n in unsure:
            tap, dy = convolutions[n]
            g[n] = tap.gradient(dy)
        tried = []
