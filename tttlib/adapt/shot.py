"""SHOT-IM, online: norms learn to give every image one class, and every class its share of images.

Paper: Liang, Hu and Feng, Do We Really Need to Access the Source Data? Source Hypothesis Transfer
for Unsupervised Domain Adaptation, ICML 2020, arXiv 2002.08546; its information maximisation
(equations 3 and 4) alone, as the code of LAME (Boudiaf et al., CVPR 2022) runs it along a stream.
For each batch, p = softmax(z) with the batch's statistics, pbar = mean_b p_b:
    L = mean_b -sum_c p_bc ln(p_bc + 1e-10) + sum_c pbar_c ln(pbar_c + 1e-10);   one SGD step
    running statistics <- (1-k) running + k batch  (the variance unbiased)
and then the answer: of the updated network, with the running statistics, from the images again.

Constants are the best ones of that code, which has none for CIFAR: lr 1e-3 without momentum,
weight decay 1e-4, k = 0. Nesterov comes with momentum.
Traps: with k = 0 the weights learn under the batch's statistics and answer under the source's; for
one image the two terms of L cancel, and nothing but the weight decay is left. This is not SHOT: it
has no pseudo-labels, no training of the whole encoder, no epochs.
Deviations: a layer that sees one value per channel keeps its running statistics, as do all if any
would not be finite.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tttlib.adapt.common import parameters
from tttlib.adapt.common.adapter import Adapter, UpdateConfig, everywhere
from tttlib.adapt.common.config import Fraction, NotNegative
from tttlib.adapt.common.optimizers import Optimizer, Sgd
from tttlib.adapt.common.running_statistics import (
    batch_norms,
    moving_statistics,
    spare_single_values,
)

EPS = 1e-10


@dataclass(frozen=True, kw_only=True)
class ShotConfig(UpdateConfig):
    """Constants.

    Attributes
    ----------
    momentum
        Of SGD; with Nesterov if above 0.
    bn_momentum
        k, share of the batch in the running statistics.
    """

    weight_decay: NotNegative = 1e-4
    momentum: NotNegative = 0.0
    bn_momentum: Fraction = 0.0


class Shot(Adapter, name="shot"):
    """Diagnostics: loss and its parts loss_entropy (in nats) and loss_diversity."""

    trains: ClassVar = "scale and shift of BatchNorm layers"
    answer: ClassVar = "of the adapting network, after this batch's update, with running statistics"
    needs: ClassVar = ("BatchNorm", "several images")
    presets: ClassVar = everywhere(ShotConfig())

    def configure(self) -> list[str]:
        """Train scale and shift of the BatchNorm layers."""
        for layer in batch_norms(self.model):
            layer.momentum = self.config.bn_momentum
        spare_single_values(self.model)
        return parameters.batch_norm_affine(self.model)

    def make_optimizer(self) -> Optimizer:
        """Make an SGD, with Nesterov if there is momentum."""
        config = self.config
        nesterov = config.momentum > 0
        return Sgd(self.parameters, config.lr, config.momentum, nesterov, config.weight_decay)

    def step(self, images: Tensor) -> Tensor:
        """Learn from a batch under its own statistics, then answer it under the running ones."""
        with moving_statistics(self.model):
            p = self.model(images).softmax(1)
            uncertainty = -(p * torch.log(p + EPS)).sum(1).mean()
            mean = p.mean(0)  # pbar [C]
            diversity = (mean * torch.log(mean + EPS)).sum()
            loss = uncertainty + diversity
            self.learn(loss)
        parts = {"loss": loss, "loss_entropy": uncertainty, "loss_diversity": diversity}
        self.diagnostics = {name: value.detach() for name, value in parts.items()}
        return self.predict(images)
