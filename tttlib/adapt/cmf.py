"""CMF: ROID whose anchor, instead of the source, is a Kalman filter's estimate of the weights.

Paper: Lee and Chang, Continual Momentum Filtering on Parameter Space for Online Test-time
Adaptation, ICLR 2024, OpenReview BllUWdpIOA. Weights, losses, update and answer are ROID's, see
`common/weight_ensembling.py`. After each update, with theta the trained tensors (n elements),
theta_0 their source values, h the estimate (theta_0 at the start) and v its variance (0):
    q' = q n / 38400,  r = 1 - q'                                noise of the process, of theta
    h <- alpha h + (1-alpha) theta_0                             prediction
    v <- alpha^2 v + q',  b = r / (v + r),  v <- b v
    h <- b h + (1-b) theta                                       correction
    theta <- gamma theta + (1-gamma) h
where b is at least .89, and 1 from .9999 on (before v is multiplied by it).

Constants are those of the released code, the same everywhere; optimisers and batches as ROID's.
38,400 is not explained there; ViT-B/16 has as many elements in its norms. With many more, b is
always .89. Of the three types of merging that it names, two are the same in effect and one is
built: theta merges with the corrected h.
Deviations: `reset` also forgets v, which the released one keeps; a batch that teaches nothing (see
ROID) leaves h and v, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tttlib.adapt.common.config import Fraction, NotNegative
from tttlib.adapt.common.optimizers import Optimizer
from tttlib.adapt.common.weight_ensembling import WeightEnsembling, WeightEnsemblingConfig, pull

ELEMENTS, LEAST, MOST = 38400, 0.89, 0.9999


@dataclass(frozen=True, kw_only=True)
class CmfConfig(WeightEnsemblingConfig):
    """Constants.

    Attributes
    ----------
    alpha
        How much of h the prediction keeps.
    gamma
        How much of theta the merging keeps.
    q
        Noise of the process for 38,400 trained elements.
    """

    alpha: Fraction = 0.99
    gamma: Fraction = 0.99
    q: NotNegative = 0.005


class Cmf(WeightEnsembling, name="cmf"):
    """Diagnostics: see `WeightEnsembling`."""

    answer: ClassVar = "of the adapting network, before this batch's update, times the prior"
    presets: ClassVar = {
        "cifar10-c": CmfConfig(),
        "cifar100-c": CmfConfig(),
        "imagenet-c": CmfConfig(optimizer="sgd", lr=2.5e-4),
    }

    def make_optimizer(self) -> Optimizer | None:
        """Prepare h and v; remember theta_0."""
        self._source = [parameter.detach().clone() for parameter in self.parameters]
        self.memory["estimate"] = [tensor.clone() for tensor in self._source]  # h
        self.memory["variance"] = self._source[0].new_zeros(())  # v
        return super().make_optimizer()

    @torch.no_grad()
    def ensemble(self, moved: Tensor) -> None:
        """Predict h, correct it by theta, and merge it into theta."""
        config, h = self.config, self.memory["estimate"]
        pull(h, self._source, (1 - config.alpha) * moved)
        q = config.q * sum(p.numel() for p in self.parameters) / ELEMENTS  # q'
        v = config.alpha**2 * self.memory["variance"] + q
        b = ((1 - q) / (v + 1 - q)).clamp(min=LEAST)
        b = torch.where(b < MOST, b, 1)
        self.memory["variance"] = torch.where(moved > 0, b * v, self.memory["variance"])
        pull(h, self.parameters, (1 - b) * moved)
        pull(self.parameters, h, (1 - config.gamma) * moved)
