"""Updates of many tensors at once, which leave out a batch whose gradients are not finite.

Adam and SGD are those of PyTorch; they are written here because a step must not ask the device
whether the gradients are finite before it goes on: their own steps weigh the update with the
answer, 0 or 1, and so leave parameters and state as they were. The other optimisers come from
their packages and do ask.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

OPTIMIZERS = ("adam", "sgd", "lars", "prodigy", "adafactor")
EPS = 1e-8  # of Adam


class Optimizer(ABC):
    """Moves `parameters` in place. State is a dict of tensors, lists of tensors and numbers."""

    @abstractmethod
    def step(self, gradients: Sequence[Tensor]) -> None:
        """One update; none if any gradient is not finite."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """What an update depends on besides the parameters."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a state."""


def make(parameters: Sequence[Tensor], config: Any) -> Optimizer:
    """The optimiser that `config` (a `TrainingConfig`) names."""
    if config.optimizer == "adam":
        return Adam(parameters, config.lr, config.betas, config.weight_decay)
    if config.optimizer == "sgd":
        return Sgd(parameters, config.lr, config.momentum, config.nesterov, config.weight_decay)
    raise ValueError(f"optimizer must be one of {', '.join(OPTIMIZERS)}, not {config.optimizer!r}")


class Sgd(Optimizer):
    """m <- mu m + g, theta <- theta - lr m, or with nesterov - lr (g + mu m); g with L2 decay."""

    def __init__(
        self,
        parameters: Sequence[Tensor],
        lr: float,
        momentum: float = 0.9,
        nesterov: bool = True,
        weight_decay: float = 0.0,
    ) -> None:
        self.parameters = list(parameters)
        self.lr, self.momentum, self.nesterov = lr, momentum, nesterov
        self.weight_decay = weight_decay
        self.buffers = [torch.zeros_like(p, requires_grad=False) for p in self.parameters]

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor]) -> None:
        ok, g = gated(gradients, self.parameters, self.weight_decay)
        torch._foreach_mul_(self.buffers, 1 - (1 - self.momentum) * ok)
        torch._foreach_add_(self.buffers, g)
        moves = torch._foreach_mul(self.buffers, self.momentum if self.nesterov else 1.0)
        if self.nesterov:
            torch._foreach_add_(moves, g)
        torch._foreach_mul_(moves, self.lr * ok)
        torch._foreach_sub_(self.parameters, moves)

    def state_dict(self) -> dict[str, Any]:
        return {"buffers": self.buffers}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        torch._foreach_copy_(self.buffers, state["buffers"])


class Adam(Optimizer):
    """Adam with L2 decay (Kingma and Ba, ICLR 2015, algorithm 1)."""

    def __init__(
        self,
        parameters: Sequence[Tensor],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.0,
    ) -> None:
        self.parameters = list(parameters)
        self.lr, self.betas, self.weight_decay = lr, betas, weight_decay
        self.means = [torch.zeros_like(p, requires_grad=False) for p in self.parameters]
        self.squares = [torch.zeros_like(p, requires_grad=False) for p in self.parameters]
        self.count = self.parameters[0].new_zeros(())

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor]) -> None:
        ok, g = gated(gradients, self.parameters, self.weight_decay)
        self.count += ok
        (mean, square), (one, two) = self.betas, self._corrections()
        torch._foreach_mul_(self.means, 1 - (1 - mean) * ok)
        torch._foreach_add_(self.means, g, alpha=1 - mean)
        torch._foreach_mul_(self.squares, 1 - (1 - square) * ok)
        torch._foreach_addcmul_(self.squares, g, g, value=1 - square)
        scale = torch._foreach_div(self.squares, two)
        torch._foreach_sqrt_(scale)
        torch._foreach_add_(scale, EPS)
        moves = torch._foreach_div(self.means, scale)
        torch._foreach_mul_(moves, self.lr * ok / one)
        torch._foreach_sub_(self.parameters, moves)

    def _corrections(self) -> list[Tensor]:
        """1 - beta^t, exact in float32 too."""
        steps = self.count.clamp(min=1)
        return [-torch.expm1(steps * math.log(beta)) if beta else steps**0 for beta in self.betas]

    def state_dict(self) -> dict[str, Any]:
        return {"means": self.means, "squares": self.squares, "count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        torch._foreach_copy_(self.means, state["means"])
        torch._foreach_copy_(self.squares, state["squares"])
        self.count.copy_(state["count"])


def finite(tensors: Sequence[Tensor]) -> Tensor:
    """Whether every element of every tensor is finite: bool [], not read back."""
    largest = torch._foreach_norm(list(tensors), ord=math.inf)
    return torch.stack(list(largest)).isfinite().all()


def gated(
    gradients: Sequence[Tensor], parameters: Sequence[Tensor], weight_decay: float
) -> tuple[Tensor, list[Tensor]]:
    """1 and the gradients with L2 decay; 0 and zeros if any of them is not finite."""
    good = finite(gradients)
    if weight_decay:
        gradients = torch._foreach_add(list(gradients), list(parameters), alpha=weight_decay)
    kept = [torch.where(good, g, 0) for g in gradients]
    return good.to(kept[0].dtype), kept
