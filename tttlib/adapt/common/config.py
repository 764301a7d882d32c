"""Constants of the methods: frozen dataclasses whose values are checked once, when one is made."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Config:
    """Constants of a method without training."""


@dataclass(frozen=True, kw_only=True)
class UpdateConfig(Config):
    """Constants of a method that moves parameters.

    Attributes
    ----------
    lr
        Learning rate.
    weight_decay
        Weight of the L2 penalty, which is part of the gradient.
    steps
        Updates for each batch; the logits of the last one are returned.
    """

    lr: float = 1e-3
    weight_decay: float = 0.0
    steps: int = 1

    def __post_init__(self) -> None:
        for name in ("lr", "weight_decay"):
            at_least(name, getattr(self, name), 0)
        at_least("steps", self.steps, 1)


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(UpdateConfig):
    """Constants of a method with an optimiser whose state lasts over the stream.

    Attributes
    ----------
    optimizer
        "adam", which uses `betas`, or "sgd", which uses `momentum` and `nesterov`.
    """

    optimizer: str = "adam"
    betas: tuple[float, float] = (0.9, 0.999)
    momentum: float = 0.9
    nesterov: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        choose("optimizer", self.optimizer, ("adam", "sgd"))
        at_least("momentum", self.momentum, 0)


@dataclass(frozen=True, kw_only=True)
class ViewConfig(Config):
    """Constants of a method that looks at random views of the images.

    Attributes
    ----------
    augment
        Maps images [B,3,H,W] to a view of them; None is CoTTA's augmentation. A function that
        draws random numbers keeps its own generator, which is not part of the adapter's state.
    seed
        Seed of the method's own random draws.
    """

    augment: Callable[[Tensor], Tensor] | None = None
    seed: int = 0


def at_least(name: str, value: float, least: float) -> None:
    """Raise ValueError unless `value` is a finite number and not below `least`."""
    if not least <= value < math.inf:
        raise ValueError(f"{name} must be finite and {least} or more, not {value}")


def positive(name: str, value: float) -> None:
    """Raise ValueError unless `value` is above 0."""
    if not value > 0:
        raise ValueError(f"{name} must be positive, not {value}")


def fraction(name: str, value: float) -> None:
    """Raise ValueError unless `value` lies in [0, 1]."""
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must lie in [0,1], not {value}")


def choose(name: str, value: object, legal: Sequence[object]) -> None:
    """Raise ValueError unless `value` is one of `legal`."""
    if value not in legal:
        raise ValueError(f"{name} must be one of {', '.join(map(str, legal))}, not {value!r}")
