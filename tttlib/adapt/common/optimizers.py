"""Updates of many tensors at once that pass over a batch whose gradients are not finite.

Adam and SGD compute what PyTorch's do. They are written here because a step must not wait for the
device to learn whether the gradients are finite: it multiplies the update by the answer, 0 or 1,
and so leaves parameters and state as they were. The other optimisers come from their packages and
do wait. Tensors may have any shape.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

EPS = 1e-8  # of Adam


class Optimizer:
    """Moves `parameters` in place; its attributes named `state` are tensors, or lists of them."""

    state: ClassVar[tuple[str, ...]] = ()

    def step(self, gradients: Sequence[Tensor], when: Tensor | None = None) -> None:
        """Make one update, or none if any gradient is not finite or `when`, bool [], is false."""
        raise NotImplementedError(f"{type(self).__name__} makes no updates by itself")

    def state_dict(self) -> dict[str, Any]:
        """Return what an update depends on besides the parameters."""
        return {name: getattr(self, name) for name in self.state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Copy a state into the own tensors."""
        for name, own in self.state_dict().items():
            single = isinstance(own, Tensor)
            torch._foreach_copy_([own] if single else own, [state[name]] if single else state[name])


def make(parameters: Sequence[Tensor], config: Any) -> Optimizer:
    """Return the optimiser that `config`, a `TrainingConfig` or alike, names."""
    if config.optimizer == "adam":
        return Adam(parameters, config.lr, config.betas, config.weight_decay)
    if config.optimizer == "sgd":
        return Sgd(parameters, config.lr, config.momentum, config.nesterov, config.weight_decay)
    return External(_EXTERNAL[config.optimizer](list(parameters), config))


class Sgd(Optimizer):
    """SGD with momentum and L2 decay, see `sgd_direction`."""

    state = ("buffers",)

    def __init__(
        self,
        parameters: Sequence[Tensor],
        lr: float,
        momentum: float = 0.9,
        nesterov: bool = True,
        weight_decay: float = 0.0,
    ) -> None:
        self.parameters, self.lr, self.weight_decay = list(parameters), lr, weight_decay
        self.momentum, self.nesterov = momentum, nesterov
        self.buffers = zeros_like(self.parameters)

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor], when: Tensor | None = None) -> None:
        """Make one update, or none if any gradient is not finite or `when`, bool [], is false."""
        ok, g = gated(gradients, self.parameters, self.weight_decay, when)
        moves = sgd_direction(self.buffers, g, self.momentum, self.nesterov, ok)
        torch._foreach_mul_(moves, self.lr * ok)
        torch._foreach_sub_(self.parameters, moves)


class Adam(Optimizer):
    """Adam with L2 decay (Kingma and Ba, ICLR 2015, algorithm 1)."""

    state = ("means", "squares", "count")

    def __init__(
        self,
        parameters: Sequence[Tensor],
        lr: float,
        betas: tuple[float, float],
        weight_decay: float,
    ) -> None:
        self.parameters, self.lr, self.weight_decay = list(parameters), lr, weight_decay
        self.betas, self.count = betas, self.parameters[0].new_zeros(())
        self.means, self.squares = zeros_like(self.parameters), zeros_like(self.parameters)

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor], when: Tensor | None = None) -> None:
        """Make one update, or none if any gradient is not finite or `when`, bool [], is false."""
        ok, g = gated(gradients, self.parameters, self.weight_decay, when)
        self.count += ok
        steps = self.count.clamp(min=1)
        moves = adam_direction(self.means, self.squares, g, self.betas, ok, steps)
        torch._foreach_mul_(moves, self.lr * ok / corrections(self.betas[0], steps))
        torch._foreach_sub_(self.parameters, moves)


class PickedAdam(Optimizer):
    """Adam of which the caller asks directions of some tensors; the others keep their state."""

    state = ("means", "squares", "counts")

    def __init__(self, parameters: Sequence[Tensor], betas: tuple[float, float]) -> None:
        self.betas = betas
        self.means, self.squares = zeros_like(parameters), zeros_like(parameters)
        self.counts = [torch.zeros_like(p.detach().sum()) for p in parameters]

    def directions(
        self, places: Sequence[int], gradients: Sequence[Tensor], ok: Tensor
    ) -> list[Tensor]:
        """Return m / (sqrt(v) + 1e-8), both corrected for their start, of some tensors.

        Parameters
        ----------
        places
            Of these tensors among all.
        gradients, ok
            Of these tensors, see `gated`.
        """
        means, squares, counts = (
            [of_all[n] for n in places] for of_all in (self.means, self.squares, self.counts)
        )
        torch._foreach_add_(counts, ok)
        steps = torch.stack(counts).clamp(min=1)
        directions = adam_direction(means, squares, list(gradients), self.betas, ok, steps)
        torch._foreach_div_(directions, list(corrections(self.betas[0], steps).unbind()))
        return directions


class External(Optimizer):
    """An optimiser with PyTorch's interface; whether the gradients are finite is read back."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer
        self.parameters = [p for group in optimizer.param_groups for p in group["params"]]

    def step(self, gradients: Sequence[Tensor], when: Tensor | None = None) -> None:
        """Make one update, or none if any gradient is not finite or `when`, bool [], is false."""
        if not finite(gradients) or (when is not None and not when):
            return
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Any]:
        """Return the state."""
        return self.optimizer.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a state."""
        self.optimizer.load_state_dict(state)


def _lars(parameters: list[Tensor], config: Any) -> torch.optim.Optimizer:
    """MAE's form: rates of tensors with two or more axes are scaled by 0.001 |theta| / |g|."""
    from timm.optim import Lars  # here, as below: slow to import, and few need it

    groups = [
        {"params": [p], "always_adapt": True, "weight_decay": config.weight_decay}
        if p.ndim > 1
        else {"params": [p], "weight_decay": 0.0}
        for p in parameters
    ]
    return Lars(groups, lr=config.lr, momentum=0.9, trust_coeff=1e-3)


def _prodigy(parameters: list[Tensor], config: Any) -> torch.optim.Optimizer:
    from prodigyopt import Prodigy

    return Prodigy(parameters, lr=config.lr, weight_decay=config.weight_decay)


def _adafactor(parameters: list[Tensor], config: Any) -> torch.optim.Optimizer:
    return torch.optim.Adafactor(parameters, lr=config.lr, weight_decay=config.weight_decay)


_EXTERNAL = {"lars": _lars, "prodigy": _prodigy, "adafactor": _adafactor}


def zeros_like(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return a list of zeros of the same shapes, without gradients."""
    return [torch.zeros_like(t, requires_grad=False) for t in tensors]


def sgd_direction(
    buffers: list[Tensor], gradients: list[Tensor], momentum: float, nesterov: bool, ok: Tensor
) -> list[Tensor]:
    """Move m <- mu m + g in place and return m, or with Nesterov g + mu m; `ok` as in `gated`."""
    torch._foreach_mul_(buffers, 1 - (1 - momentum) * ok)
    torch._foreach_add_(buffers, gradients)
    direction = torch._foreach_mul(buffers, momentum if nesterov else 1.0)
    if nesterov:
        torch._foreach_add_(direction, gradients)
    return list(direction)


def adam_direction(
    means: list[Tensor],
    squares: list[Tensor],
    gradients: list[Tensor],
    betas: tuple[float, float],
    ok: Tensor,
    steps: Tensor,
) -> list[Tensor]:
    """Move the running means m of g and v of g^2 in place; with `ok` 0 they stay, see `gated`.

    Returns m / (sqrt(v) + 1e-8) with v corrected for its start, and m not. `steps` is the number
    of updates so far, or [n] such numbers.
    """
    mean, square = betas
    torch._foreach_mul_(means, 1 - (1 - mean) * ok)
    torch._foreach_add_(means, gradients, alpha=1 - mean)
    torch._foreach_mul_(squares, 1 - (1 - square) * ok)
    torch._foreach_addcmul_(squares, gradients, gradients, value=1 - square)
    correction: Any = corrections(square, steps)
    scale = torch._foreach_div(squares, list(correction.unbind()) if steps.ndim else correction)
    torch._foreach_sqrt_(scale)
    torch._foreach_add_(scale, EPS)
    return list(torch._foreach_div(means, scale))


def corrections(beta: float, steps: Tensor) -> Tensor:
    """Return 1 - beta^t for t = `steps`, exact in float32 too."""
    return -torch.expm1(steps * math.log(beta)) if beta else torch.ones_like(steps)


def finite(tensors: Sequence[Tensor]) -> Tensor:
    """Return whether every element of every tensor is finite: bool [], not read back."""
    largest = torch._foreach_norm(list(tensors), ord=math.inf)
    return torch.stack(list(largest)).isfinite().all()


def gated(
    gradients: Sequence[Tensor],
    parameters: Sequence[Tensor] = (),
    weight_decay: float = 0.0,
    when: Tensor | None = None,
) -> tuple[Tensor, list[Tensor]]:
    """Return 1 and the gradients with L2 decay, or 0 and zeros if any of them is not finite.

    The latter also if `when`, bool [], is false. The first is a scalar tensor: the device is not
    waited for.
    """
    good = finite(gradients) if when is None else finite(gradients) & when
    if weight_decay:
        gradients = torch._foreach_add(list(gradients), list(parameters), alpha=weight_decay)
    kept = [torch.where(good, g, 0) for g in gradients]
    return good.to(kept[0].dtype), kept


def normalised(gradients: Sequence[Tensor]) -> list[Tensor]:
    """Return g / (|g| + 1e-8): the first step of a new Adam, whatever its betas."""
    size = torch._foreach_abs(list(gradients))
    torch._foreach_add_(size, EPS)
    return list(torch._foreach_div(list(gradients), size))


def move(
    parameters: Sequence[Tensor],
    directions: Sequence[Tensor],
    rates: Iterable[Any],
    scale: Tensor | None = None,
) -> None:
    """Subtract rate times direction from each parameter, all times `scale`.

    Parameters
    ----------
    parameters
        n tensors, changed in place.
    directions
        n tensors, overwritten.
    rates
        n numbers, or tensors on the device that are scalars or have the shape of the parameter.
    scale
        Scalar on the device; None is 1.
    """
    torch._foreach_mul_(list(directions), list(rates))
    if scale is not None:
        torch._foreach_mul_(list(directions), scale)
    torch._foreach_sub_(list(parameters), list(directions))
