"""Constants of the methods: frozen dataclasses whose types say which values are legal."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin

from torch import Tensor


class Limits(NamedTuple):
    """The least and the greatest legal number; the least one is out if `above`."""

    least: float = -math.inf
    greatest: float = math.inf
    above: bool = False

    def check(self, name: str, value: float) -> None:
        """Raise ValueError unless `value` is a finite number within the limits."""
        inside = self.least < value if self.above else self.least <= value
        if not (inside and value <= self.greatest and math.isfinite(value)):
            left, right = "(" if self.above else "[", "]" if math.isfinite(self.greatest) else ")"
            limits = f"{left}{self.least}, {self.greatest}{right}"
            raise ValueError(f"{name} must lie in {limits}, not {value}")


NotNegative = Annotated[float, Limits(0)]
Positive = Annotated[float, Limits(0, above=True)]
Fraction = Annotated[float, Limits(0, 1)]
Count = Annotated[int, Limits(1)]


@functools.cache
def _types(config: type) -> dict[str, Any]:
    """Return the types of the constants that a class declares."""
    try:
        return inspect.get_annotations(config, eval_str=True)
    except NameError:  # of a name that only a type checker knows
        return {}


@dataclass(frozen=True, kw_only=True)
class Config:
    """Constants of a method without training.

    A constant is checked by its type when it is made: `Literal` lists the legal values, the types
    above limit a number.
    """

    def __post_init__(self) -> None:
        for name, kind in [pair for c in type(self).__mro__ for pair in _types(c).items()]:
            value, parts = getattr(self, name), get_args(kind)
            if get_origin(kind) is Literal:
                choose(name, value, parts)
            for part in (kind, *parts) if value is not None or type(None) not in parts else ():
                for limits in getattr(part, "__metadata__", ()):
                    limits.check(name, value)


def choose(name: str, value: object, legal: Sequence[object]) -> None:
    """Raise ValueError unless `value` is one of `legal`."""
    if value not in legal:
        raise ValueError(f"{name} must be one of {', '.join(map(str, legal))}, not {value!r}")


AdamOrSgd = Literal["adam", "sgd"]


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

    lr: NotNegative = 1e-3
    weight_decay: NotNegative = 0.0
    steps: Count = 1


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(UpdateConfig):
    """Constants of a method with an optimiser whose state lasts over the stream.

    Attributes
    ----------
    optimizer
        "adam", which uses `betas`, or "sgd", which uses `momentum` and `nesterov`.
    """

    optimizer: AdamOrSgd = "adam"
    betas: tuple[float, float] = (0.9, 0.999)
    momentum: NotNegative = 0.9
    nesterov: bool = True


@dataclass(frozen=True, kw_only=True)
class EntropyConfig(Config):
    """Constants of a method that follows how uncertain the network is.

    Attributes
    ----------
    loss
        What is meant by that: "entropy" of the predictions, or "come", see `losses.come`.
    mass
        K of "come", the weight of not knowing; None is C. The released code has 1000 whatever C is.
    """

    loss: Literal["entropy", "come"] = "entropy"
    mass: Positive | None = None


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
