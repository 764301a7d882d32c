"""The optimisers of test-time training, and SGD with momentum inside the backward pass.

With "sgd", the gradient of a linear layer is added to its momentum by the very matrix product that
computes it, m <- mu m + x^T dy, and w <- w - lr m follows at once. No gradient is stored, copied or
read again, which is what a network with one mask would mostly wait for. All other parameters, and
all of them with "adam" and "adamw", get gradients and PyTorch's optimiser.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from tttlib.ttt.stacked import StackedAutoencoder


@dataclass(frozen=True)
class Rule:
    """An optimiser that acts on each element alone, hence on each replica alone.

    Attributes
    ----------
    name
        "sgd" (with `momentum`), "adamw" or "adam" (both with betas 0.9 and 0.95).
    lr, momentum
        Learning rate, and the factor of SGD's momentum.
    weight_decay
        Decoupled with "adamw", else added to the gradient as weight_decay * w. None means 0.01
        with "adamw" (PyTorch's default), else 0.
    """

    name: str
    lr: float
    momentum: float = 0.9
    weight_decay: float | None = None

    @property
    def decay(self) -> float:
        """The `weight_decay` as a number."""
        if self.weight_decay is None:
            return 0.01 if self.name == "adamw" else 0.0
        return self.weight_decay

    def make(self, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
        """Return PyTorch's optimiser that does this to `parameters` of any shape."""
        if self.name == "sgd":
            return torch.optim.SGD(
                parameters, lr=self.lr, momentum=self.momentum, weight_decay=self.decay
            )
        adam = torch.optim.AdamW if self.name == "adamw" else torch.optim.Adam
        return adam(parameters, lr=self.lr, betas=(0.9, 0.95), weight_decay=self.decay)


class StackedOptimizer:
    """Updates every replica of a `StackedAutoencoder` by its own loss.

    Parameters
    ----------
    net
        The stack.
    rule
        What every replica does.
    rates
        A learning rate for each replica; None means `rule.lr` for all. Neighbours with one rate
        share an optimiser of PyTorch.
    """

    def __init__(
        self, net: StackedAutoencoder, rule: Rule, rates: Sequence[float] | None = None
    ) -> None:
        self._net, self._rule = net, rule
        self._rates = list(rates or [rule.lr] * net.replicas)
        parameters = net.parameters
        layers = [n.removesuffix(".weight") for n, v in parameters.items() if v.ndim > 2]
        layers = [n for n in layers if rule.name == "sgd" and f"{n}.bias" in parameters]
        self._fused = {
            n: Momentum(
                parameters[f"{n}.weight"], parameters[f"{n}.bias"], rule, runs_of(self._rates)
            )
            for n in layers
        }
        net.products = {
            n: partial(FusedLinear.apply, momentum) for n, momentum in self._fused.items()
        }
        self._others = [n for n in parameters if n.rpartition(".")[0] not in layers]
        self.restart()

    def restart(self) -> None:
        """Forget all momenta."""
        for momentum in self._fused.values():
            momentum.restart()
        self._parts = [(at, self._make(at, lr)) for at, lr in runs_of(self._rates)]

    def narrow(self, replicas: int) -> None:
        """Go on with the first replicas alone, after `net` was narrowed."""
        del self._rates[replicas:]
        for name, momentum in self._fused.items():
            weight, bias = (self._net.parameters[f"{name}.{k}"] for k in ("weight", "bias"))
            momentum.narrow(weight, bias, runs_of(self._rates))
        parts = zip(runs_of(self._rates), self._parts, strict=False)
        self._parts = []
        for (at, lr), (_, old) in parts:
            new = self._make(at, lr)
            for before, after in zip(_parameters(old), _parameters(new), strict=True):
                for name, value in old.state[before].items():
                    each = isinstance(value, Tensor) and value.ndim  # no count of steps
                    new.state[after][name] = value[: len(after)] if each else value
            self._parts.append((at, new))

    def descend(self, losses: Tensor, *, first: bool = True, last: bool = True) -> None:
        """Update every replica once by its own loss, [S] of `losses`.

        A loss may come in parts whose sum it is: the `first` one drops earlier gradients, the
        `last` one moves the weights.
        """
        leaves = [self._net.parameters[name] for name in self._others]
        if first:
            for leaf in leaves:
                leaf.grad = None
        for momentum in self._fused.values():
            momentum.first, momentum.last = first, last
        losses.sum().backward()
        if not last:
            return
        for at, optimizer in self._parts:
            for view, leaf in zip(_parameters(optimizer), leaves, strict=True):
                if view is not leaf:
                    view.grad = None if leaf.grad is None else leaf.grad[at]
            optimizer.step()

    def _make(self, at: slice, lr: float) -> torch.optim.Optimizer:
        """Return the optimiser of some replicas: of the leaves if these are all, else of views."""
        leaves = [self._net.parameters[name] for name in self._others]
        if at.stop - at.start < self._net.replicas:
            leaves = [leaf.detach()[at] for leaf in leaves]
        return replace(self._rule, lr=lr).make(leaves)


def runs_of(rates: Sequence[float]) -> list[tuple[slice, float]]:
    """Return the slices of neighbours with one learning rate, and the rate of each."""
    runs, start = [], 0
    for lr, same in groupby(rates):
        stop = start + len(list(same))
        runs.append((slice(start, stop), lr))
        start = stop
    return runs


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return optimizer.param_groups[0]["params"]


class Momentum:
    """SGD of one layer's weight [S,out,in] and bias [S,out], fed from the backward pass.

    `runs` are slices of replicas, and the learning rate of each.
    """

    def __init__(
        self, weight: Tensor, bias: Tensor, rule: Rule, runs: Sequence[tuple[slice, float]]
    ) -> None:
        self.weight, self.bias, self.runs = weight, bias, runs
        self.momentum, self.decay = rule.momentum, rule.decay
        self.of_weight = torch.empty_like(weight.detach().flatten(2).transpose(1, 2))  # [S,in,out]
        self.of_bias = torch.empty_like(bias.detach())
        self.restart()

    def restart(self) -> None:
        """Keep nothing of what was gathered."""
        self.beta = 0.0
        self.first = self.last = True

    def narrow(self, weight: Tensor, bias: Tensor, runs: Sequence[tuple[slice, float]]) -> None:
        """Go on with the first replicas alone, whose weight and bias are these."""
        self.weight, self.bias, self.runs = weight, bias, runs
        self.of_weight, self.of_bias = self.of_weight[: len(bias)], self.of_bias[: len(bias)]

    @torch.no_grad()
    def update(self, x: Tensor, dy: Tensor) -> None:
        """Update m <- mu m + g + decay w and w <- w - lr m, where g = x^T dy.

        Shapes are x [S,n,in] and dy [S,n,out]. For a loss in parts, m is scaled with the first part
        and w moves with the last.
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
            for at, lr in self.runs:
                weight[at].sub_(self.of_weight[at], alpha=lr)
                self.bias[at].sub_(self.of_bias[at], alpha=lr)


def _decay(x: Tensor, beta: float) -> Tensor:
    """Scale x by beta in place; 0 for beta 0, whatever x was."""
    return x.zero_() if beta == 0 else x.mul_(beta)


class FusedLinear(torch.autograd.Function):
    """The product x W^T + b, whose backward pass updates W and b and returns no gradient of them.

    Shapes are x [S,n,in], W [S,out,in] and b [S,out].
    """

    @staticmethod
    def forward(ctx: Any, momentum: Momentum, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Multiply; under autocast in its precision."""
        if torch.is_autocast_enabled(x.device.type):
            dtype = torch.get_autocast_dtype(x.device.type)
            x, weight, bias = x.to(dtype), weight.to(dtype), bias.to(dtype)
        ctx.save_for_backward(x, weight)
        ctx.momentum = momentum
        return torch.baddbmm(bias[:, None], x, weight.transpose(1, 2))

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[None, Tensor | None, None, None]:
        """Return the gradient of x by the weights before their update."""
        x, weight = ctx.saved_tensors
        dx = torch.bmm(dy, weight) if ctx.needs_input_grad[1] else None
        ctx.momentum.update(x, dy)
        return None, dx, None, None
