"""EcoTTA: small networks beside a frozen one learn, held back by the frozen one's own features.

Paper: Song et al., EcoTTA: Memory-Efficient Continual Test-time Adaptation via Self-distilled
Regularization, CVPR 2023, arXiv 2303.01904. The network is cut into K parts, which get a meta
network each (`common/meta_networks.py`), with x_k a part's own answer and x~_k the joint one.
Warm-up on source images, the network frozen: cross-entropy, SGD. Then for each batch
    L = mean over {b: H(z_b) < 0.4 ln C} of H(z_b) + lambda sum_k mean |x~_k - stopgrad(x_k)|
and one step of the meta networks; logits from before it. All BatchNorm layers use batch statistics.

No official code is public; equations and constants are partly from memory and from a community
implementation, which two_steps=True follows: first the second term, each part by itself, one step;
then, in a second pass, the first term and another step; logits of the second pass.
Known deviations: lambda 0.5 is from memory (0.25 in the community's code); the warm-up too uses
batch statistics, the community's moves the running ones; of ResNets in torchvision's form the
stem's pooling counts as stem. Networks without a sequence of convolutional blocks have no meaning.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm.auto import tqdm

from tttlib.adapt.common import meta_networks, parameters
from tttlib.adapt.common.adapter import Adapter, Config, TrainingConfig
from tttlib.adapt.common.batch_norm import use_batch_statistics
from tttlib.adapt.common.config import AdamOrSgd, Count, Limits, NotNegative
from tttlib.adapt.common.image_views import WARM_UP, random_view
from tttlib.adapt.common.losses import reliable_entropy
from tttlib.adapt.common.optimizers import Sgd


@dataclass(frozen=True, kw_only=True)
class WarmUp(Config):
    """Constants of the warm-up.

    Attributes
    ----------
    schedule
        "steps" multiplies by 0.2 after 0.3, 0.6 and 0.8 of the epochs, and rises linearly over the
        first epoch; "cosine" falls to 0.
    """

    epochs: Annotated[int, Limits(0)] = 10
    lr: NotNegative = 0.05
    momentum: float = 0.9
    batch_size: Count = 64
    schedule: Literal["steps", "cosine"] = "steps"

    def rate(self, progress: float) -> float:
        """Return the learning rate after `progress` epochs."""
        done = progress / max(self.epochs, 1)
        if self.schedule == "cosine":
            return self.lr * (1 + math.cos(math.pi * done)) / 2
        return self.lr * min(progress, 1) * 0.2 ** sum(done >= part for part in (0.3, 0.6, 0.8))


@dataclass(frozen=True, kw_only=True)
class EcottaConfig(TrainingConfig):
    """Constants.

    Attributes
    ----------
    source
        Source images for the warm-up: an `ImageSet`, or a callable that maps an epoch to batches
        (images [B,3,H,W] in [0,1] or uint8, labels [B]), as a list or DataLoader. One that draws
        random numbers seeds them itself. `reset` goes back to just after the warm-up; a state that
        is loaded into an adapter with `WarmUp(epochs=0)` brings its own.
    parts
        K, or how many blocks each part has.
    blocks
        Names of the modules to cut between, called one after the other; None is the residual
        blocks.
    margin
        In nats; None is 0.4 ln C.
    regularisation
        lambda.
    two_steps
        Whether to do as the community implementation.
    warm_up, warm_up_augment
        Constants of the warm-up, and what replaces its random views.
    seed
        Of meta networks, and of order and views in the warm-up.
    progress
        Whether to show a bar during the warm-up.
    """

    lr: NotNegative = 5e-3
    optimizer: AdamOrSgd = "sgd"
    nesterov: bool = False
    source: Any = None
    parts: int | Sequence[int] = 5
    blocks: Sequence[str] | None = None
    margin: float | None = None
    regularisation: NotNegative = 0.5
    two_steps: bool = False
    warm_up: WarmUp = field(default_factory=WarmUp)
    warm_up_augment: Callable[[Tensor], Tensor] | None = None
    seed: int = 0
    progress: bool = False


class Ecotta(Adapter, name="ecotta"):
    """Train `model.meta`. Diagnostics: loss, reliable (number of images), distance [K]."""

    trains: ClassVar = "small networks beside the frozen one"
    needs = ("source images",)
    presets: ClassVar = {
        "cifar10-c": EcottaConfig(),
        "cifar100-c": EcottaConfig(),
        "imagenet-c": EcottaConfig(warm_up=WarmUp(epochs=3, batch_size=256, schedule="cosine")),
    }

    def configure(self) -> list[str]:
        """Cut the network into parts, add the meta networks and warm them up."""
        config = self.config
        if config.source is None:
            raise ValueError(
                "ecotta warms up on source images: pass source=data.load(...), or a callable that "
                "gives batches for an epoch"
            )
        ends = meta_networks.ends_of_parts(
            list(config.blocks or meta_networks.residual_blocks(self.model)), config.parts
        )
        first = self._received(next(iter(self._epoch(0)[1]))[0][:2])
        self.memory["shapes"] = shapes = meta_networks.shapes_of_parts(self.model, ends, first)
        meta = nn.ModuleList(meta_networks.MetaNetwork(*shape, self.generator) for shape in shapes)
        self.model.meta = meta.to(next(self.model.parameters())).to(memory_format=self._format)
        use_batch_statistics(self.model)
        self._parts = meta_networks.PartsWithMeta(self.model, ends)
        self._warm_up()
        return [n for n in parameters.all_weights(self.model) if n.startswith("meta.")]

    def step(self, images: Tensor) -> Tensor:
        """Answer a batch, follow its entropy and stay near the frozen features."""
        config = self.config
        if config.two_steps:
            self._parts(images, detached=True)
            self.learn(config.regularisation * torch.stack(self._parts.distances).sum())
        logits = self._parts(images)
        loss, reliable = reliable_entropy(logits, config.margin)
        distance = torch.stack(self._parts.distances)  # [K]
        if not config.two_steps:
            loss = loss + config.regularisation * distance.sum()
        self.learn(loss)
        values = {"loss": loss.detach(), "reliable": reliable.sum()}
        self.diagnostics = {**values, "distance": distance.detach()}
        self._parts.forget()
        return logits

    def predict(self, images: Tensor) -> Tensor:
        """Return the logits of the network with its meta networks as they are."""
        logits = super().predict(images)
        self._parts.forget()
        return logits

    def _warm_up(self) -> None:
        """Train the meta networks on source images with labels."""
        constants = self.config.warm_up
        trained = [p for n, p in self.model.named_parameters() if n.startswith("meta.")]
        for parameter in trained:
            parameter.requires_grad_(True)
        optimizer = Sgd(trained, constants.lr, constants.momentum, nesterov=False)
        with torch.inference_mode(False), torch.enable_grad():
            for epoch in tqdm(range(constants.epochs), "warm-up", disable=not self.config.progress):
                number, batches = self._epoch(epoch)
                for n, (images, labels) in enumerate(batches, 1):
                    optimizer.lr = constants.rate(epoch + n / number)
                    x = self._received(images)
                    augment = self.config.warm_up_augment
                    x = augment(x) if augment else random_view(x, self.generator, WARM_UP)
                    loss = F.cross_entropy(self._parts(x), labels.to(x.device))
                    optimizer.step(torch.autograd.grad(loss, trained))
        self._parts.forget()

    def _epoch(self, epoch: int) -> tuple[int, Iterable[tuple[Tensor, Tensor]]]:
        """Return number and batches of an epoch: the callable's, or the image set's, shuffled."""
        source = self.config.source
        if callable(source):
            batches = source(epoch)
            batches = batches if hasattr(batches, "__len__") else list(batches)
            return len(batches), batches
        order = torch.randperm(len(source), generator=self.generator)
        rows = order.split(self.config.warm_up.batch_size)
        return len(rows), ((source.images[part], source.labels[part]) for part in rows)
