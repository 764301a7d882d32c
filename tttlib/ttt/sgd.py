"""The optimisers of test-time training, and SGD with momentum inside the backward pass.

A layer's gradient is added to its momentum by the very matrix product that computes it,
m <- mu m + x^T dy, and w <- w - lr m follows at once. Nothing is stored, copied or read again for a
gradient, which is what a network with one mask would mostly wait for. Other optimisers get
gradients.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Rule:
    """An optimiser that acts on each element alone, hence on each replica alone.

    name          "sgd" (momentum), "adamw" or "adam" (both betas (0.9,0.95))
    weight_decay  decoupled with "adamw", else added to the gradient as weight_decay * w; None: 0.01
                  with "adamw" (PyTorch's default), else 0
    """

    name: str
    lr: float
    momentum: float = 0.9
    weight_decay: float | None = None

    @property
    def decay(self) -> float:
        """`weight_decay` as a number."""
        if self.weight_decay is None:
            return 0.01 if self.name == "adamw" else 0.0
        return self.weight_decay

    def make(self, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
        """The optimiser of PyTorch that does this to `parameters` of any shape."""
        if self.name == "sgd":
            return torch.optim.SGD(
                parameters, lr=self.lr, momentum=self.momentum, weight_decay=self.decay
            )
        adam = torch.optim.AdamW if self.name == "adamw" else torch.optim.Adam
        return adam(parameters, lr=self.lr, betas=(0.9, 0.95), weight_decay=self.decay)


class Momentum:
    """SGD of one layer's weight [S,out,in] and bias [S,out], fed from the backward pass."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        self.weight, self.bias = weight, bias
        self.of_weight = torch.empty_like(weight.detach().flatten(2).transpose(1, 2))  # [S,in,out]
        self.of_bias = torch.empty_like(bias.detach())

    def start(self, rule: Rule) -> None:
        self.lr, self.momentum, self.decay = rule.lr, rule.momentum, rule.decay
        self.beta = 0.0  # nothing is kept at first
        self.first = self.last = True

    @torch.no_grad()
    def update(self, x: Tensor, dy: Tensor) -> None:
        """m <- mu m + g + decay w, w <- w - lr m, with g = x^T dy; x [S,n,in], dy [S,n,out].

        Of a loss in parts: m is scaled with the first, w moves with the last.
        """
        beta = self.beta if self.first else 1.0
        if x.dtype == self.of_weight.dtype:
            self.of_weight.baddbmm_(x.transpose(1, 2), dy, beta=beta)
        else:  # autocast: products in half precision, sums in full
            gradient = torch.bmm(x.transpose(1, 2), dy).to(self.of_weight.dtype)
            _decay(self.of_weight, beta).add_(gradient)
        _decay(self.of_bias, beta).add_(dy.sum(1, dtype=self.of_bias.dtype))
        if self.last:
            self.beta = self.momentum
            weight = self.weight.flatten(2).transpose(1, 2)
            if self.decay:
                self.of_weight.add_(weight, alpha=self.decay)
                self.of_bias.add_(self.bias, alpha=self.decay)
            weight.sub_(self.of_weight, alpha=self.lr)
            self.bias.sub_(self.of_bias, alpha=self.lr)


def _decay(x: Tensor, beta: float) -> Tensor:
    """beta x, in place; 0 whatever x was for beta 0."""
    return x.zero_() if beta == 0 else x.mul_(beta)


class FusedLinear(torch.autograd.Function):
    """x W^T + b, whose backward pass updates W and b instead of returning their gradients.

    x [S,n,in], W [S,out,in], b [S,out].
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, momentum: Momentum) -> Tensor:
        if torch.is_autocast_enabled(x.device.type):
            dtype = torch.get_autocast_dtype(x.device.type)
            x, weight, bias = x.to(dtype), weight.to(dtype), bias.to(dtype)
        ctx.save_for_backward(x, weight)
        ctx.momentum = momentum
        return torch.baddbmm(bias[:, None], x, weight.transpose(1, 2))

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, None, None, None]:
        x, weight = ctx.saved_tensors
        dx = torch.bmm(dy, weight) if ctx.needs_input_grad[0] else None  # by the old weights
        ctx.momentum.update(x, dy)
        return dx, None, None, None
