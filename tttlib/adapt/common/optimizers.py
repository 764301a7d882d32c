"""Updates of many tensors at once, which leave out a batch whose gradients are not finite.

Adam and SGD are those of PyTorch; they are written here because a step must not ask the device
whether the gradients are finite before it goes on: their own steps weigh the update with the
answer, 0 or 1, and so leave parameters and state as they were. The other optimisers come from
their packages and do ask. Tensors may have any shape.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

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
    return External(_EXTERNAL[config.optimizer](list(parameters), config))


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
        mean, square = self.betas
        steps = self.count.clamp(min=1)
        torch._foreach_mul_(self.means, 1 - (1 - mean) * ok)
        torch._foreach_add_(self.means, g, alpha=1 - mean)
        torch._foreach_mul_(self.squares, 1 - (1 - square) * ok)
        torch._foreach_addcmul_(self.squares, g, g, value=1 - square)
        scale = torch._foreach_div(self.squares, corrections(square, steps))
        torch._foreach_sqrt_(scale)
        torch._foreach_add_(scale, EPS)
        moves = torch._foreach_div(self.means, scale)
        torch._foreach_mul_(moves, self.lr * ok / corrections(mean, steps))
        torch._foreach_sub_(self.parameters, moves)

    def state_dict(self) -> dict[str, Any]:
        return {"means": self.means, "squares": self.squares, "count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        torch._foreach_copy_(self.means, state["means"])
        torch._foreach_copy_(self.squares, state["squares"])
        self.count.copy_(state["count"])


class PickedAdam(Optimizer):
    """Adam of which every step takes some of the tensors; the others keep moments and count."""

    def __init__(self, parameters: Sequence[Tensor], betas: tuple[float, float]) -> None:
        self.betas = betas
        self.means = [torch.zeros_like(p, requires_grad=False) for p in parameters]
        self.squares = [torch.zeros_like(p, requires_grad=False) for p in parameters]
        self.counts = [torch.zeros_like(p.detach().sum()) for p in parameters]

    def step(self, gradients: Sequence[Tensor]) -> None:
        raise NotImplementedError("the rates are the caller's: use directions")

    def directions(
        self, at: Sequence[int], gradients: Sequence[Tensor], ok: Tensor
    ) -> list[Tensor]:
        """m / (sqrt(v) + 1e-8), both corrected, of the tensors `at`; see `gated` for the others."""
        mean, square = self.betas
        means, squares = [self.means[n] for n in at], [self.squares[n] for n in at]
        counts = [self.counts[n] for n in at]
        torch._foreach_add_(counts, ok)
        torch._foreach_mul_(means, 1 - (1 - mean) * ok)
        torch._foreach_add_(means, list(gradients), alpha=1 - mean)
        torch._foreach_mul_(squares, 1 - (1 - square) * ok)
        torch._foreach_addcmul_(squares, list(gradients), list(gradients), value=1 - square)
        steps = torch.stack(counts).clamp(min=1)
        scale = torch._foreach_div(squares, list(corrections(square, steps).unbind()))
        torch._foreach_sqrt_(scale)
        torch._foreach_add_(scale, EPS)
        found = torch._foreach_div(means, scale)
        torch._foreach_div_(found, list(corrections(mean, steps).unbind()))
        return list(found)

    def state_dict(self) -> dict[str, Any]:
        return {"means": self.means, "squares": self.squares, "counts": self.counts}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, tensors in self.state_dict().items():
            torch._foreach_copy_(tensors, state[name])


class External(Optimizer):
    """An optimiser with PyTorch's interface. Whether gradients are finite is read back."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer
        self.parameters = [p for group in optimizer.param_groups for p in group["params"]]

    def step(self, gradients: Sequence[Tensor]) -> None:
        if not finite(gradients):
            return
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Any]:
        return self.optimizer.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state)


def _lars(parameters: list[Tensor], config: Any) -> torch.optim.Optimizer:
    """MAE's form: rates of tensors with two or more axes are scaled by 0.001 |theta| / |g|."""
    from timm.optim import Lars  # here, as below: slow to import, and few need it

    return Lars(
        [
            {"params": [p], "always_adapt": p.ndim > 1, "weight_decay": config.weight_decay}
            if p.ndim > 1
            else {"params": [p], "weight_decay": 0.0}
            for p in parameters
        ],
        lr=config.lr,
        momentum=0.9,
        trust_coeff=1e-3,
    )


def _prodigy(parameters: list[Tensor], config: Any) -> torch.optim.Optimizer:
    from prodigyopt import Prodigy

    return Prodigy(parameters, lr=config.lr, weight_decay=config.weight_decay)


def _adafactor(parameters: list[Tensor], config: Any) -> torch.optim.Optimizer:
    return torch.optim.Adafactor(parameters, lr=config.lr, weight_decay=config.weight_decay)


_EXTERNAL = {"lars": _lars, "prodigy": _prodigy, "adafactor": _adafactor}


def corrections(beta: float, steps: Tensor) -> Tensor:
    """1 - beta^t, exact in float32 too."""
    return -torch.expm1(steps * math.log(beta)) if beta else torch.ones_like(steps)


def finite(tensors: Sequence[Tensor]) -> Tensor:
    """Whether every element of every tensor is finite: bool [], not read back."""
    largest = torch._foreach_norm(list(tensors), ord=math.inf)
    return torch.stack(list(largest)).isfinite().all()


def gated(
    gradients: Sequence[Tensor], parameters: Sequence[Tensor] = (), weight_decay: float = 0.0
) -> tuple[Tensor, list[Tensor]]:
    """1, a scalar, and the gradients with L2 decay; 0 and zeros if any of them is not finite."""
    good = finite(gradients)
    if weight_decay:
        gradients = torch._foreach_add(list(gradients), list(parameters), alpha=weight_decay)
    kept = [torch.where(good, g, 0) for g in gradients]
    return good.to(kept[0].dtype), kept


def normalised(gradients: Sequence[Tensor]) -> list[Tensor]:
    """g / (|g| + 1e-8): the direction of the first step of a new Adam, whatever its betas."""
    size = torch._foreach_abs(list(gradients))
    torch._foreach_add_(size, EPS)
    return list(torch._foreach_div(list(gradients), size))


def move(parameters: Sequence[Tensor], directions: Sequence[Tensor], rates: Tensor) -> None:
    """theta_n <- theta_n - rate_n d_n, rates [n] on the device; spends `directions`."""
    torch._foreach_mul_(list(directions), list(rates.unbind()))
    torch._foreach_sub_(list(parameters), list(directions))
