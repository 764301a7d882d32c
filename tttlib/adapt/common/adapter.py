"""What every method of continual test-time adaptation has in common.

A method says in this order: which parameters it trains and how its normalisation layers behave
(`configure`), and how it answers one batch and learns from it (`step`). Everything that changes
while it runs lies in `networks`, `optimizer`, `memory` and `generator`; that is what `state_dict`
holds and `reset` restores.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from tttlib.adapt.common.augmentation import cotta_view
from tttlib.adapt.common.config import Config, TrainingConfig, UpdateConfig, ViewConfig, choose
from tttlib.adapt.common.losses import cross_entropy
from tttlib.adapt.common.networks import memory_format, snapshot, taken_over
from tttlib.adapt.common.optimizers import Optimizer, make
from tttlib.runtime.images import check_images

__all__ = ["METHODS", "NEEDS", "Adapter", "Config", "TrainingConfig", "UpdateConfig", "ViewConfig"]

METHODS: dict[str, type[Adapter]] = {}
"""Every method that has been imported, by name."""

NEEDS = ("several images", "BatchNorm", "source images", "last linear layer", "self-supervision")
"""What a method may need: several images at a time to have a meaning, BatchNorm layers, images of
the source, a network that ends in a linear layer, a network with a self-supervised task."""


def everywhere(constants: Config) -> dict[str, Config]:
    """Return presets with the same constants for every dataset."""
    return dict.fromkeys(("cifar10-c", "cifar100-c", "imagenet-c"), constants)


class Adapter(ABC):
    """A network that adapts itself to the images it is asked about.

    A subclass names itself (`class Tent(Adapter, name="tent")`), has `presets`, and defines
    `configure` and `step`.

    Attributes
    ----------
    model
        The adapted network, a copy of the caller's. Images get its memory format.
    networks
        Every network of the method by name; "model" is the one above.
    trained
        Names of the parameters of `model` that the method may move; `parameters` are the tensors
        and `sizes` [n] their numbers of elements.
    memory
        Tensors, numbers and dicts or lists of them that the method keeps between batches.
    generator
        Source of every random draw, on the CPU.
    diagnostics
        What the last batch did: detached tensors on the model's device. Reading them is left to
        the caller, who can wait until a domain ends.
    layers
        What the numbers of a vector in `diagnostics` belong to, if not to `trained`.
    presets
        Constants by name of the dataset.
    variants
        Constants that differ between readings of a paper, by the name of the `variant`.
    trains
        What the method trains, in words; empty if nothing.
    answer
        Where the logits come from, in words, for records.
    needs
        What the method needs besides a network and one image, each one of `NEEDS`.

    Raises
    ------
    ValueError
        For a network without anything that the method trains.
    """

    name: ClassVar[str]
    presets: ClassVar[Mapping[str, Any]]
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    trains: ClassVar[str] = ""
    needs: ClassVar[tuple[str, ...]] = ()
    answer: ClassVar[str] = "of the adapting network, before this batch's update"
    layers: tuple[str, ...] = ()

    def __init_subclass__(cls, *, name: str | None = None, **others: Any) -> None:
        super().__init_subclass__(**others)
        if name is not None:
            cls.name = name
            if unknown := set(cls.needs) - set(NEEDS):
                raise ValueError(f"{name} needs {unknown}; known are {', '.join(NEEDS)}")
            METHODS[name] = cls

    def __init__(self, model: nn.Module, config: Any) -> None:
        self.config = config
        self.model = taken_over(model, learns=isinstance(config, UpdateConfig))
        self._format = memory_format(self.model)
        self._looked_at = False  # at the values of images
        self.networks: dict[str, nn.Module] = {"model": self.model}
        self.memory: dict[str, Any] = {}
        self.optimizer: Optimizer | None = None
        self.generator = torch.Generator().manual_seed(getattr(config, "seed", 0))
        self.diagnostics: dict[str, Tensor] = {}
        self.trained: tuple[str, ...] = tuple(self.configure())
        if self.trains and not self.trained:
            what = f"{self.name} trains {self.trains}"
            raise ValueError(f"{what}, and this model has none; use source")
        self.parameters: list[Tensor] = [self.model.get_parameter(n) for n in self.trained]
        for parameter in self.parameters:
            parameter.requires_grad_(True)
        like = next(self.model.parameters())
        self.sizes = like.new_tensor([p.numel() for p in self.parameters])
        if self.trained and self.optimizer is None:
            self.optimizer = self.make_optimizer()
        self._initial = self.state_dict()

    # -- what a method defines -------------------------------------------------------------------

    @abstractmethod
    def configure(self) -> Sequence[str]:
        """Prepare `model` (and more networks) and return the names of the parameters to train.

        Raises
        ------
        ValueError
            For a model, or constants, that the method cannot work with.
        """

    @abstractmethod
    def step(self, images: Tensor) -> Tensor:
        """Answer a batch [B,3,H,W] with logits [B,C] and learn from it; gradients are enabled."""

    def predict(self, images: Tensor) -> Tensor:
        """Return the logits [B,C] that the method would answer now, without learning."""
        with torch.no_grad():
            return self.model(self._received(images))

    def make_optimizer(self) -> Optimizer | None:
        """Return the optimiser whose state lasts over the stream, if the method has one."""
        return make(self.parameters, self.config)

    # -- what a method uses ----------------------------------------------------------------------

    def augment(self, images: Tensor) -> Tensor:
        """Return a view of the images: by the function in the constants, else CoTTA's."""
        if self.config.augment is not None:
            return self.config.augment(images)
        return cotta_view(images, self.generator)

    def inconsistency(self, logits: Tensor, images: Tensor, weight: float) -> Tensor | float:
        """Return weight CE(z||z') with z' the logits of a new view; no view if `weight` is 0."""
        if not weight:
            return 0.0
        return weight * cross_entropy(logits, self.model(self.augment(images)))

    def gradients(
        self, loss: Tensor, parameters: Sequence[Tensor] | None = None, *, keep_graph: bool = False
    ) -> list[Tensor]:
        """Return the gradients of `loss`, zeros where it does not depend on a parameter.

        Parameters
        ----------
        loss
            Scalar.
        parameters
            Tensors to differentiate with respect to; None is all trained ones.
        keep_graph
            Whether the graph is needed once more.
        """
        inputs = self.parameters if parameters is None else list(parameters)
        return list(
            torch.autograd.grad(loss, inputs, retain_graph=keep_graph, materialize_grads=True)
        )

    def learn(self, loss: Tensor, *, when: Tensor | None = None) -> None:
        """Move the trained parameters by one step of the optimiser down the gradient of `loss`.

        Parameters
        ----------
        loss
            Scalar.
        when
            bool []: without it there is no step, and momentum does not move anything either. The
            device is not waited for. None is always.

        Raises
        ------
        RuntimeError
            For a method without an optimiser.
        """
        if self.optimizer is None:
            raise RuntimeError(f"{self.name} has no optimizer to learn with")
        self.optimizer.step(self.gradients(loss), when)

    # -- what callers use ------------------------------------------------------------------------

    def __call__(self, images: Tensor) -> Tensor:
        """Answer a batch with logits and adapt to it.

        Parameters
        ----------
        images
            [B,3,H,W], floating point in [0,1] or uint8; the network normalises by itself. A pixel
            that is NaN counts as 0, one that is infinite as 0 or 1: with the statistics of the
            batch it would spoil the answers to all others.

        Returns
        -------
        Tensor
            Logits [B,C], detached.

        Raises
        ------
        ValueError
            For anything else, see `tttlib.runtime.images.check_images` (values on a GPU, for which
            it would have to wait, are looked at in the first batch only), and for a network that
            does not answer with logits.
        """
        with torch.inference_mode(False), torch.enable_grad():
            images = self._received(images)
            for _ in range(getattr(self.config, "steps", 1)):
                logits = self.step(images)
            return logits.detach()

    def reset(self) -> None:
        """Go back to the state after construction, bit by bit."""
        self.load_state_dict(self._initial)

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of everything that changes while the method runs."""
        return {
            "method": self.name,
            "networks": {name: snapshot(net.state_dict()) for name, net in self.networks.items()},
            "optimizer": {} if self.optimizer is None else snapshot(self.optimizer.state_dict()),
            "memory": snapshot(self.memory),
            "generator": self.generator.get_state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue bit by bit from a `state_dict` of the same method and architecture.

        Raises
        ------
        ValueError
            For the state of another method or architecture.
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

    @classmethod
    def settings(cls, preset: str | None, overrides: Mapping[str, Any]) -> Any:
        """Return a preset's constants, changed by the variant and then by `overrides`.

        The preset is "cifar10-c" unless named.

        Raises
        ------
        ValueError
            For an unknown preset, variant or constant, or a value that is not legal.
        """
        preset = preset or "cifar10-c"
        if preset not in cls.presets:
            raise ValueError(
                f"{cls.name} has no preset {preset!r}; there are {', '.join(cls.presets)}"
            )
        constants = cls.presets[preset]
        known = [field.name for field in fields(constants)]
        if wrong := ", ".join(name for name in overrides if name not in known):
            have = ", ".join(known) or "no constants"
            raise ValueError(f"{cls.name} has no {wrong}; it has {have}")
        if cls.variants:
            variant = overrides.get("variant", constants.variant)
            choose("variant", variant, tuple(cls.variants))
            overrides = {**cls.variants[variant], **overrides}
        return replace(constants, **overrides)

    # -- inside ----------------------------------------------------------------------------------

    def _received(self, images: Tensor) -> Tensor:
        """Return the images as the network takes them: its device, dtype and memory format."""
        on_cpu = isinstance(images, Tensor) and images.device.type == "cpu"
        check_images(images, finite=False, values=on_cpu or not self._looked_at)
        self._looked_at = True
        like = next(self.model.parameters())
        if images.dtype == torch.uint8:
            images = images.to(like.device, non_blocking=True).to(like.dtype) / 255
        images = images.detach().to(like.device, like.dtype, non_blocking=True)
        images = torch.nan_to_num(images, nan=0.0, posinf=1.0, neginf=0.0)
        return images.contiguous(memory_format=self._format)
