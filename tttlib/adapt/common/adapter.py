"""What every method of continual test-time adaptation has in common.

A method says in this order: which parameters it trains and how its normalisation layers behave
(`configure`), and how one batch is answered and learned from (`step`). Everything that changes
while it runs lies in `networks`, `optimizer`, `memory` and `generator`; that is what `state_dict`
holds and `reset` restores.
"""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from tttlib.adapt.common.augmentation import cotta_view
from tttlib.adapt.common.optimizers import Optimizer, make

_CONTIGUOUS = torch.contiguous_format
METHODS: dict[str, type[Adapter]] = {}
"""Every method that has been imported, by name."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Constants of a method without training."""


@dataclass(frozen=True, kw_only=True)
class UpdateConfig(Config):
    """Constants of a method that moves parameters.

    steps  updates for each batch; the logits of the last one are returned
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

    optimizer  "adam" (uses betas) or "sgd" (uses momentum and nesterov)
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

    augment  images [B,3,H,W] -> a view of them; CoTTA's augmentation unless given. One that draws
             random numbers keeps them to itself: they are not in the state
    seed     of the method's own random draws
    """

    augment: Callable[[Tensor], Tensor] | None = None
    seed: int = 0


def at_least(name: str, value: float, least: float) -> None:
    """Raise ValueError unless `value` is a finite number and not below `least`."""
    if not least <= value < math.inf:
        raise ValueError(f"{name} must be finite and {least} or more, not {value}")


def choose(name: str, value: object, legal: Sequence[object]) -> None:
    """Raise ValueError unless `value` is one of `legal`."""
    if value not in legal:
        raise ValueError(f"{name} must be one of {', '.join(map(str, legal))}, not {value!r}")


class Adapter(ABC):
    """A network that adapts itself to the images it is asked about.

    model        the adapted network (a copy of the caller's; images get its memory format)
    networks     every network of the method by name; "model" is the one above
    trained      names of the parameters of `model` that the method may move; `parameters` are the
                 tensors, `sizes` [n] their numbers of elements
    memory       tensors, numbers and dicts or lists of them that the method keeps between batches
    generator    of every random draw (CPU)
    diagnostics  of the last batch: detached tensors on the model's device, so that reading them is
                 left to the caller, who can wait until a domain ends

    answer       where the logits come from, for records
    layers       what the numbers of a vector among the diagnostics belong to, if not to `trained`

    A subclass names itself (`class Tent(Adapter, name="tent")`), has `presets`, and defines
    `configure` and `step`.
    """

    presets: ClassVar[Mapping[str, Any]]
    name: ClassVar[str]
    answer: ClassVar[str] = "of the adapting network, before this batch's update"
    layers: tuple[str, ...] = ()

    def __init_subclass__(cls, *, name: str | None = None, **others: Any) -> None:
        super().__init_subclass__(**others)
        if name is not None:
            cls.name = name
            METHODS[name] = cls

    def __init__(self, model: nn.Module, config: Any) -> None:
        self.config = config
        self.model = copy_of(model)
        self._format = memory_format(self.model)
        self.networks: dict[str, nn.Module] = {"model": self.model}
        self.memory: dict[str, Any] = {}
        self.optimizer: Optimizer | None = None
        self.generator = torch.Generator().manual_seed(getattr(config, "seed", 0))
        self.diagnostics: dict[str, Tensor] = {}
        self.trained: tuple[str, ...] = tuple(self.configure())
        named = dict(self.model.named_parameters())
        self.parameters: list[Tensor] = [named[name] for name in self.trained]
        for parameter in self.parameters:
            parameter.requires_grad_(True)
        like = next(self.model.parameters())
        self.sizes = like.new_tensor([p.numel() for p in self.parameters])
        if self.trained and self.optimizer is None:
            self.optimizer = self.make_optimizer()
        self._initial = self.state_dict()

    # -- what a method defines -------------------------------------------------------------------

    @classmethod
    def settings(cls, preset: str | None, overrides: Mapping[str, Any]) -> Any:
        """The constants of a preset with some replaced."""
        return replace(cls.preset(preset), **cls.legal(overrides))

    @abstractmethod
    def configure(self) -> Sequence[str]:
        """Prepare `model` (and more networks); the names of the parameters to train.

        Raises ValueError for a model, or constants, that the method cannot work with.
        """

    @abstractmethod
    def step(self, images: Tensor) -> Tensor:
        """Answer a batch [B,3,H,W] with logits [B,C] and learn from it. Gradients are enabled."""

    def predict(self, images: Tensor) -> Tensor:
        """Logits [B,C] as the method would answer now, without learning from the images."""
        with torch.no_grad():
            return self.model(self._received(images))

    def make_optimizer(self) -> Optimizer | None:
        """The optimiser whose state lasts over the stream, if the method has one."""
        return make(self.parameters, self.config)

    # -- what a method uses ----------------------------------------------------------------------

    def augment(self, images: Tensor) -> Tensor:
        """A view of the images: the one that was asked for, or CoTTA's."""
        if self.config.augment is not None:
            return self.config.augment(images)
        return cotta_view(images, self.generator)

    def gradients(
        self, loss: Tensor, parameters: Sequence[Tensor] | None = None, *, again: bool = False
    ) -> list[Tensor]:
        """Of `loss` at `parameters`, else at all that are trained; 0 where it does not depend.

        again  the graph is needed once more
        """
        at = self.parameters if parameters is None else list(parameters)
        return list(torch.autograd.grad(loss, at, retain_graph=again, materialize_grads=True))

    # -- what callers use ------------------------------------------------------------------------

    def __call__(self, images: Tensor) -> Tensor:
        """Logits [B,C], detached, of images [B,3,H,W] in [0,1] (or uint8); adapts to them.

        A pixel that is NaN counts as 0, one that is infinite as 0 or 1: with the statistics of the
        batch it would spoil the answers to all other images. Raises ValueError for an empty batch.
        """
        with torch.inference_mode(False), torch.enable_grad():
            images = self._received(images)
            for _ in range(getattr(self.config, "steps", 1)):
                logits = self.step(images)
            return logits.detach()

    def reset(self) -> None:
        """Back to the state after construction, bit by bit."""
        self.load_state_dict(self._initial)

    def state_dict(self) -> dict[str, Any]:
        """A copy of everything that changes; `load_state_dict` continues from it bit by bit."""
        return {
            "method": self.name,
            "networks": {name: snapshot(net.state_dict()) for name, net in self.networks.items()},
            "optimizer": {} if self.optimizer is None else snapshot(self.optimizer.state_dict()),
            "memory": snapshot(self.memory),
            "generator": self.generator.get_state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` of the same method on the same architecture gave.

        Raises ValueError for the state of another method or architecture.
        """
        method = state.get("method")
        if method != self.name or set(state["networks"]) != set(self.networks):
            raise ValueError(f"this is a state of {method!r}, not of {self.name!r}")
        try:
            for name, network in self.networks.items():
                network.load_state_dict(state["networks"][name])
        except RuntimeError as error:
            raise ValueError(f"this is the state of another architecture: {error}") from error
        if self.optimizer is not None:
            self.optimizer.load_state_dict(snapshot(state["optimizer"]))
        device = next(self.model.parameters()).device
        self.memory = snapshot(state["memory"], device)
        self.generator.set_state(state["generator"].cpu())
        self.diagnostics = {}

    # -- inside ----------------------------------------------------------------------------------

    @classmethod
    def preset(cls, name: str | None) -> Any:
        """The constants for a dataset. Raises ValueError for an unknown one."""
        name = name or "cifar10-c"
        if name not in cls.presets:
            raise ValueError(
                f"{cls.name} has no preset {name!r}; there are {', '.join(cls.presets)}"
            )
        return cls.presets[name]

    @classmethod
    def legal(cls, overrides: Mapping[str, Any]) -> dict[str, Any]:
        """`overrides`, if all of them are constants of the method; raises ValueError otherwise."""
        known = [field.name for field in fields(cls.preset(None))]
        wrong = [name for name in overrides if name not in known]
        if wrong:
            raise ValueError(
                f"{cls.name} has no {', '.join(wrong)}; it has {', '.join(known) or 'no constants'}"
            )
        return dict(overrides)

    def _received(self, images: Tensor) -> Tensor:
        if images.ndim != 4 or not len(images):
            raise ValueError(
                f"images must be [B,3,H,W] with B of 1 or more, not {list(images.shape)}"
            )
        like = next(self.model.parameters())
        if images.dtype == torch.uint8:
            images = images.to(like.device, non_blocking=True).to(like.dtype) / 255
        images = images.detach().to(like.device, like.dtype, non_blocking=True)
        images = torch.nan_to_num(images, nan=0.0, posinf=1.0, neginf=0.0)
        return images.contiguous(memory_format=self._format)


def copy_of(model: nn.Module) -> nn.Module:
    """A copy in eval mode whose parameters are frozen and carry no gradients."""
    copied = copy.deepcopy(model).eval().requires_grad_(False)
    for parameter in copied.parameters():
        parameter.grad = None
    return copied


def memory_format(model: nn.Module) -> torch.memory_format:
    """Channels last if the convolutions have it (`model.to(memory_format=…)`), else contiguous."""
    last = torch.channels_last
    weights = [p for p in model.parameters() if p.ndim == 4 and not p.is_contiguous()]
    return last if any(p.is_contiguous(memory_format=last) for p in weights) else _CONTIGUOUS


def snapshot(value: Any, device: torch.device | None = None) -> Any:
    """A copy of nested dicts, lists and tuples whose tensors are copies, too."""
    if isinstance(value, Tensor):
        return value.detach().to(device or value.device, copy=True)
    if isinstance(value, Mapping):
        return {name: snapshot(one, device) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(snapshot(one, device) for one in value)
    return value
