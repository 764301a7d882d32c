"""MEMO: for each image alone, the whole network learns to agree with itself over many views.

Paper: Zhang, Levine and Finn, MEMO: Test Time Robustness via Adaptation and Augmentation,
NeurIPS 2022, arXiv 2110.09506. For each image x, from the source's weights and a new optimiser:
    l = log softmax(network(views)),  N views [N,3,H,W]
    g_c = ln mean_n exp(l_nc),   L = -sum_c exp(g_c) g_c;   one step on all parameters
    answer network(x), after the step
BatchNorm layers take (1-a) source + a batch as statistics, of the views and then of the image alone
(`Mixed` in `common/mixed_batch_norm.py`). Views are AugMix's (`common/augmix.py`). Nothing is kept
from image to image, so order and batches are irrelevant but for the draws. An image costs N + 1
images forward and N backward.

variant="released" has the constants of the authors' code: SGD without momentum, a = 1/17.
"collection" has those of a later collection of methods: momentum .9 with Nesterov and a new buffer
for every image, so that a step is 1.9 lr g; a = .1.
Known deviations: the authors' script does not renew the optimiser, whose moments run on (with SGD
without momentum there are none); `steps` beyond 1 repeats the episode with other views.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from tttlib.adapt.common import optimizers, parameters
from tttlib.adapt.common.adapter import Adapter, TrainingConfig, ViewConfig
from tttlib.adapt.common.augmix import augmix
from tttlib.adapt.common.config import AdamOrSgd, Count, Fraction, NotNegative
from tttlib.adapt.common.mixed_batch_norm import Mixed, use_mixed_statistics


@dataclass(frozen=True, kw_only=True)
class MemoConfig(TrainingConfig, ViewConfig):
    """Constants; `augment` maps N copies of an image [N,3,H,W] to views, None is AugMix.

    Attributes
    ----------
    bn_alpha
        a, share of the batch in the statistics.
    n_views
        N.
    crop
        What AugMix begins with: "shift" for small images, "zoom" for large ones.
    variant
        See the header of this file.
    """

    lr: NotNegative = 5e-3
    optimizer: AdamOrSgd = "sgd"
    momentum: NotNegative = 0.0
    nesterov: bool = False
    bn_alpha: Fraction = 1 / 17
    n_views: Count = 32
    crop: Literal["shift", "zoom"] = "shift"
    variant: str = "released"


class Memo(Adapter, name="memo"):
    """Diagnostics: loss [B], the entropy of each image's mean prediction before its step."""

    trains: ClassVar = "all parameters, for one image"
    answer: ClassVar = "of the network after this image's update"
    presets: ClassVar = {
        "cifar10-c": MemoConfig(),
        "cifar100-c": MemoConfig(),
        "imagenet-c": MemoConfig(lr=2.5e-4, n_views=64, crop="zoom"),
    }
    variants: ClassVar = {
        "released": {},
        "collection": {"momentum": 0.9, "nesterov": True, "bn_alpha": 0.1},
    }

    def configure(self) -> list[str]:
        """Mix the statistics of BatchNorm layers; all parameters are trained."""
        use_mixed_statistics(self.model, self.config.bn_alpha, Mixed)
        return parameters.everything(self.model)

    def make_optimizer(self) -> None:
        """Remember the source's parameters; optimisers last for one image."""
        self._source = [parameter.detach().clone() for parameter in self.parameters]

    def augment(self, images: Tensor) -> Tensor:
        """Return a view of each of the images, which are copies of one."""
        if self.config.augment is not None:
            return self.config.augment(images)
        return augmix(images, self.generator, crop=self.config.crop)

    def predict(self, images: Tensor) -> Tensor:
        """Return the logits [B,C] of the source's parameters, each image by itself."""
        images = self._received(images)
        with torch.no_grad():
            return torch.cat([self.model(image) for image in images.split(1)])

    def step(self, images: Tensor) -> Tensor:
        """Adapt to each image [1,3,H,W], answer it, and forget."""
        answers, losses = [], []
        for image in images.split(1):
            try:
                loss = marginal_entropy(self.model(self._views(image)))
                optimizers.make(self.parameters, self.config).step(self.gradients(loss))
                with torch.no_grad():
                    answers.append(self.model(image))
            finally:
                with torch.no_grad():
                    torch._foreach_copy_(self.parameters, self._source)
            losses.append(loss.detach())
        self.diagnostics = {"loss": torch.stack(losses)}
        return torch.cat(answers)  # [B,C]

    def _views(self, image: Tensor) -> Tensor:
        """Return N views [N,3,H,W] of an image [1,3,H,W]."""
        views = self.augment(image.repeat(self.config.n_views, 1, 1, 1))
        return views.contiguous(memory_format=self._format)


def marginal_entropy(logits: Tensor) -> Tensor:
    """Return the entropy of the mean prediction of N views, logits [N,C]."""
    g = logits.log_softmax(1).logsumexp(0) - math.log(len(logits))  # [C]
    g = g.clamp(min=torch.finfo(g.dtype).min)
    return -(g * g.exp()).sum()
