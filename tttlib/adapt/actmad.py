"""ActMAD: activations after every normalisation layer are drawn to the moments of clean images.

Paper: Mirza et al., ActMAD: Activation Matching to Align Distributions for Test-Time-Training, CVPR
2023, arXiv 2211.12870. Once, over source images, for every BatchNorm, LayerNorm and GroupNorm layer
l with outputs a_l [B,...]: mean M_l and variance V_l over the images, at every place and channel by
itself. For each batch, m_l and v_l likewise over its images:
    L = sum_l mean |m_l - M_l| + mean |v_l - V_l|
One step of all weights and biases; the answer comes after it. reset="batch" goes back to the source
before every batch, as standard test-time training does.

Written from memory: neither paper nor code was at hand. Remembered are the location-aware moments,
the L1 distance, all layers, all parameters, source statistics without augmentation, the answer
after the update. Own choices: the plain sum over layers, means over places (a sum would weigh large
maps more), unbiased variances, and BatchNorm with the source's statistics: with the batch's, the
shift that is to be matched would be hidden. Constants are no published ones: SGD at 1e-2 is a
starting point, without momentum, which would carry one corruption's step into the next. Class
tokens and position embeddings are not trained.
Traps: images need the size of the source images; a batch of one has no variance, so only its means
count; timm's BatchNormAct2d is matched after its activation.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from tttlib.adapt.common import parameters
from tttlib.adapt.common.adapter import Adapter, TrainingConfig
from tttlib.adapt.common.config import AdamOrSgd, Count, NotNegative
from tttlib.adapt.common.source_images import source_batches


@dataclass(frozen=True, kw_only=True)
class ActmadConfig(TrainingConfig):
    """Constants.

    Attributes
    ----------
    source
        Clean images: an `ImageSet`, or batches [B,3,H,W] of them. Their statistics are kept.
    source_images, source_batch
        How many images of an `ImageSet` are drawn, and how many pass at once.
    reset
        "never", or "batch" to go back to the source before every batch.
    predict_first
        Whether the answer is from before the update.
    seed
        Of the choice of source images.
    """

    lr: NotNegative = 1e-2
    optimizer: AdamOrSgd = "sgd"
    momentum: NotNegative = 0.0
    nesterov: bool = False
    source: Any = None
    source_images: Count = 2000
    source_batch: Count = 200
    reset: Literal["never", "batch"] = "never"
    predict_first: bool = False
    seed: int = 0


class Moments(NamedTuple):
    """Mean and sum of squared deviations over `number` outputs of a layer."""

    number: int
    mean: Tensor
    squares: Tensor

    @property
    def variance(self) -> Tensor:
        """Unbiased, of two or more."""
        return self.squares / (self.number - 1)


def joined(a: Moments, b: Moments) -> Moments:
    """Return the moments of two samples together (Chan et al.)."""
    number, gap = a.number + b.number, b.mean - a.mean
    squares = a.squares + b.squares + gap**2 * (a.number * b.number / number)
    return Moments(number, a.mean + gap * (b.number / number), squares)


class Actmad(Adapter, name="actmad"):
    """Diagnostics: loss, and distance [n] of each of the n `layers`."""

    trains: ClassVar = "weights and biases"
    answer: ClassVar = "of the adapting network, after this batch's update unless predict_first"
    needs = ("several images", "source images")
    presets: ClassVar = {
        "cifar10-c": ActmadConfig(),
        "cifar100-c": ActmadConfig(),
        "imagenet-c": ActmadConfig(source_batch=64),
    }

    def configure(self) -> list[str]:
        """Keep the moments of source images; all weights and biases are trained."""
        if not any(isinstance(m, parameters.NORMS) for _, m in parameters.classifying(self.model)):
            raise ValueError(
                "actmad compares what comes out of normalisation layers, and this model has none; "
                "use source"
            )
        if self.config.source is None:
            raise ValueError(
                "actmad compares with clean images: pass source=data.load(...), or batches of them"
            )
        config, total = self.config, list[Moments]()
        how = (config.source_images, config.source_batch, self.generator)
        with torch.no_grad():
            for batch in source_batches(config.source, *how):
                _, found = self._through(self._received(batch))
                total = list(map(joined, total, found)) if total else found
        if not total or min(moments.number for moments in total) < 2:
            raise ValueError("actmad needs two or more source images")
        self.memory["means"] = [moments.mean for moments in total]  # M
        self.memory["variances"] = [moments.variance for moments in total]  # V
        if not all(v.isfinite().all() for v in self.memory["variances"]):
            raise ValueError("activations of actmad's source images are not finite")
        return parameters.all_weights(self.model)

    def __call__(self, images: Tensor) -> Tensor:
        """Answer a batch as every adapter does, from the source if that is the form."""
        if self.config.reset == "batch":
            self.reset()
        return super().__call__(images)

    def step(self, images: Tensor) -> Tensor:
        """Draw the batch's moments to the source's, and answer.

        Raises
        ------
        ValueError
            For images of another size than the source images have.
        """
        logits, found = self._through(images)
        kept = zip(found, self.memory["means"], self.memory["variances"], strict=True)
        distances = []
        for moments, mean, variance in kept:
            if moments.mean.shape != mean.shape:
                raise ValueError(
                    "actmad compares activations place by place, so images need the size of the "
                    f"source images, not {list(images.shape[2:])}"
                )
            distance = (moments.mean - mean).abs().mean()
            if moments.number > 1:
                distance = distance + (moments.variance - variance).abs().mean()
            distances.append(distance)
        distance = torch.stack(distances)  # [n]
        loss = distance.sum()
        self.learn(loss)
        self.diagnostics = {"loss": loss.detach(), "distance": distance.detach()}
        return logits if self.config.predict_first else self.predict(images)

    def _through(self, images: Tensor) -> tuple[Tensor, list[Moments]]:
        """Return logits [B,C] and the moments of every call of a normalisation layer, in order."""
        order: list[str] = []
        found: list[Moments] = []

        def look(name: str) -> Callable[..., None]:
            def hook(layer: nn.Module, inputs: tuple[Any, ...], y: Tensor) -> None:
                # A copy, since what follows may overwrite it
                y = y.to(torch.promote_types(y.dtype, torch.float32), copy=True)
                mean = y.mean(0)
                order.append(name)
                found.append(Moments(len(y), mean, (y - mean).square().sum(0)))

            return hook

        with ExitStack() as hooks:
            for name, module in parameters.classifying(self.model):
                if isinstance(module, parameters.NORMS):
                    hooks.enter_context(module.register_forward_hook(look(name)))
            logits = self.model(images)
        self.layers = tuple(order)
        return logits, found
