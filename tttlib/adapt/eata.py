"""EATA: ETA, held back where the source's weights carry information.

Paper: Niu et al., Efficient Test-Time Model Adaptation without Forgetting, ICML 2022,
arXiv 2204.02610. To the L of ETA, whose equations 1 to 4 are in `common/selected_entropy.py`, comes
    (5)  beta sum_n sum F_n (theta_n - theta_0n)^2
in batches that select something. Once, at the start, with K batches of source images:
    (6)  F_n = (1/K) sum_k g_kn^2,   g_k = d/dtheta of the mean of -log softmax(z_b)[argmax z_b]

Constants are those of a collection of released codes, whose F comes from 2,000 images of the
training set in batches of the test batch's size. F is the square of a batch's mean gradient, not
the mean square of the images' gradients: about 1/B of it, so that beta belongs to a batch size
(2000 to batches of 64). The official code has SGD without Nesterov's momentum, and takes clean
*test* images; labels are never used.
Known deviations: `reset` forgets m, which the official code keeps. Without source images this is
ETA. A batch of source images whose gradients are not finite counts as one without information.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from tttlib.adapt.common.config import Count, NotNegative
from tttlib.adapt.common.optimizers import Optimizer, gated, zeros_like
from tttlib.adapt.common.selected_entropy import SelectedEntropy, SelectedEntropyConfig
from tttlib.adapt.common.source_images import source_batches


@dataclass(frozen=True, kw_only=True)
class EataConfig(SelectedEntropyConfig):
    """Constants.

    Attributes
    ----------
    fisher_weight
        beta; 0 is ETA.
    source
        Source images: batches [B,3,H,W], or an `ImageSet`. None is ETA, unless a state that is
        loaded brings its own F.
    source_images, source_batch
        How many images of an `ImageSet` are drawn, and how many make up a batch.
    seed
        Of this draw.
    """

    fisher_weight: NotNegative = 1.0
    source: Any = None
    source_images: Count = 2000
    source_batch: Count = 200
    seed: int = 0


class Eata(SelectedEntropy, name="eata"):
    """Diagnostics: loss, L with equation 5; reliable and selected, numbers of images."""

    needs = ("source images",)
    presets: ClassVar = {
        "cifar10-c": EataConfig(),
        "cifar100-c": EataConfig(redundancy=0.1),
        "imagenet-c": EataConfig(
            optimizer="sgd", lr=2.5e-4, redundancy=0.05, fisher_weight=2000.0, source_batch=64
        ),
    }

    def make_optimizer(self) -> Optimizer | None:
        """Prepare the memory: Fisher information, and theta_0."""
        wanted = self.config.source is not None and self.config.fisher_weight > 0
        self.memory["fisher"] = self._fisher() if wanted else []
        self.memory["source"] = [p.detach().clone() for p in self.parameters] if wanted else []
        return super().make_optimizer()

    def penalty(self) -> Tensor | float:
        """Return the distance from the source (equation 5)."""
        fisher, source = self.memory["fisher"], self.memory["source"]
        if not fisher:
            return 0.0
        moved = zip(fisher, self.parameters, source, strict=True)
        terms = [(f * (p - s) ** 2).sum() for f, p, s in moved]
        return self.config.fisher_weight * torch.stack(terms).sum()

    def _fisher(self) -> list[Tensor]:
        """Return F_n of every trained tensor (equation 6)."""
        fisher, count, config = zeros_like(self.parameters), 0, self.config
        how = (config.source_images, config.source_batch, self.generator)
        batches = source_batches(config.source, *how)
        with torch.inference_mode(False), torch.enable_grad():
            for images in batches:
                logits = self.model(self._received(images))
                likelihood = F.cross_entropy(logits, logits.argmax(1))
                _, g = gated(self.gradients(likelihood))
                torch._foreach_addcmul_(fisher, g, g)
                count += 1
        if not count:
            raise ValueError("eata's source has no batches of images; pass some, or None for ETA")
        torch._foreach_div_(fisher, count)
        return fisher
