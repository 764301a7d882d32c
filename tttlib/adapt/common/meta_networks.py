"""Small networks beside the parts of a frozen one: the architecture of EcoTTA.

Song et al., EcoTTA, CVPR 2023, arXiv 2303.01904, section 3.1. The blocks of a network are cut into
K parts, and part k gets a meta network:
    x_k = part_k(x~_{k-1}),   x~_k = BN_k(x_k) + ReLU(BN(conv3x3_k(x~_{k-1})))
Cut points: 12 blocks (WRN-28) 2,2,2,2,4 or 2,2,4,4; 16 (ResNet-50) 2,2,4,4,4 or 3,3,5,5 for K = 5
and 4. Other numbers, among them ResNeXt-29's 9, are not the paper's: cut evenly, larger parts last.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CUTS = {(12, 5): (2, 2, 2, 2, 4), (12, 4): (2, 2, 4, 4)}
CUTS |= {(16, 5): (2, 2, 4, 4, 4), (16, 4): (3, 3, 5, 5)}
_BLOCK = re.compile(r"(^|\.)(block\d+\.layer|layer\d+|stage_\d+)\.\d+$")
Shape = tuple[int, int, int]
Part = tuple[str, str]  # names of the first and the last block


class MetaNetwork(nn.Module):
    """BN(x) + ReLU(BN(conv3x3(before))): x is what a part gives, `before` what it was given.

    x [B,outside,h,w], before [B,inside,h*stride,w*stride].
    """

    def __init__(self, inside: int, outside: int, stride: int, random: torch.Generator) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(outside)
        # Its own initialisation would draw from PyTorch's global generator
        sizes = (inside, outside, 3, stride, 1)
        self.conv = nn.utils.skip_init(nn.Conv2d, *sizes, bias=False)
        self.conv_norm = nn.BatchNorm2d(outside)
        nn.init.kaiming_normal_(self.conv.weight, nonlinearity="relu", generator=random)

    def forward(self, x: Tensor, before: Tensor) -> Tensor:
        """Return x~, [B,outside,h,w]."""
        return self.norm(x) + F.relu(self.conv_norm(self.conv(before)))


class PartsWithMeta:
    """A network whose parts answer together with the meta networks in `model.meta`.

    Attributes
    ----------
    distances
        mean |x~_k - stopgrad(x_k)| of each part in the last pass.
    """

    def __init__(self, model: nn.Module, ends: Sequence[tuple[str, str]]) -> None:
        self.model = model
        self.distances: list[Tensor] = []
        self._inputs: dict[int, Tensor] = {}
        self._detached = False
        for k, (start, end) in enumerate(ends):
            model.get_submodule(start).register_forward_pre_hook(self._enter(k))
            model.get_submodule(end).register_forward_hook(self._leave(k))

    def __call__(self, images: Tensor, *, detached: bool = False) -> Tensor:
        """Return logits [B,C]; `detached` lets no gradient pass between the parts."""
        self._detached = detached
        try:
            return self.model(images)
        finally:
            self._detached = False

    def forget(self) -> None:
        """Let go of the last pass and its graph."""
        self.distances, self._inputs = [], {}

    def _enter(self, k: int) -> Callable[..., tuple[Tensor, ...]]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            if k == 0:
                self.forget()
            self._inputs[k] = inputs[0].detach() if self._detached else inputs[0]
            return (self._inputs[k], *inputs[1:])

        return hook

    def _leave(self, k: int) -> Callable[..., Tensor]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            meta: MetaNetwork = self.model.meta[k]  # type: ignore[index, assignment]
            changed = meta(output, self._inputs[k])
            self.distances.append((changed - output.detach()).abs().mean())
            return changed

        return hook


def residual_blocks(model: nn.Module) -> list[str]:
    """Return the names of the residual blocks of a WRN, ResNet or ResNeXt in their order."""
    return [name for name, _ in model.named_modules() if _BLOCK.search(name)]


def ends_of_parts(blocks: Sequence[str], parts: int | Sequence[int]) -> list[tuple[str, str]]:
    """Return the first and the last block of every part.

    Parameters
    ----------
    blocks
        Names of the modules to cut between.
    parts
        K, or how many blocks each part has.

    Raises
    ------
    ValueError
        Without blocks, or if the parts do not add up to them.
    """
    if not blocks:
        raise ValueError(
            "ecotta cuts a sequence of convolutional blocks, which it knows by the names "
            "block1.layer.0, layer1.0 or stage_1.0; this model has none of them. Name those of "
            "another convolutional network with blocks=(...); transformers have no feature maps "
            "to convolve, for them use source, tent or cotta"
        )
    n = len(blocks)
    if isinstance(parts, int):
        k = max(1, min(parts, n))
        parts = CUTS.get((n, k)) or [n // k] * (k - n % k) + [n // k + 1] * (n % k)
    if sum(parts) != n or min(parts) < 1:
        raise ValueError(f"parts {tuple(parts)} must be positive and add up to {n} blocks")
    cuts = accumulate(parts, initial=0)
    return [(blocks[a], blocks[b - 1]) for a, b in pairwise(cuts)]


@torch.no_grad()
def shapes_of_parts(model: nn.Module, ends: Sequence[Part], images: Tensor) -> list[Shape]:
    """Return (channels in, channels out, stride) of every part, as measured on images.

    Raises
    ------
    ValueError
        If a part has no feature maps [B,C,H,W] at its ends.
    """
    seen: dict[str, tuple[Tensor, Tensor]] = {}  # what a block was given, and gave
    with ExitStack() as stack:
        for name in {name for pair in ends for name in pair}:

            def note(module: nn.Module, inputs: Any, output: Tensor, name: str = name) -> None:
                seen[name] = inputs[0], output

            stack.enter_context(model.get_submodule(name).register_forward_hook(note))
        model(images)
    shapes: list[Shape] = []
    for start, end in ends:
        x, y = seen[start][0], seen[end][1]
        if x.ndim != 4 or y.ndim != 4:
            shown = f"between {start} and {end} there are {list(x.shape)} and {list(y.shape)}"
            raise ValueError(f"ecotta needs feature maps [B,C,H,W], but {shown}")
        shapes.append((x.shape[1], y.shape[1], round(x.shape[2] / y.shape[2])))
    return shapes
