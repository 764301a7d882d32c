"""ROID: certain and diverse images teach the norms, which stay near the source's.

Paper: Marsden, Doebler and Yang, Universal Test-time Adaptation through Weight Ensembling,
Diversity Weighting, and Prior Correction, WACV 2024, arXiv 2306.00650. Weights, losses, update and
answer are in `common/weight_ensembling.py`, which CMF shares. What is ROID's own comes after the
update, with theta the trained tensors and theta_0 their source values:
    theta <- mu_s theta + (1-mu_s) theta_0
The optimiser's moments do not follow.

Constants are those of the authors' collection of methods, which is ROID's official code: Adam 1e-3
for CIFAR, SGD 2.5e-4 with Nesterov momentum for ImageNet, the rest the same everywhere.
Traps, as released: logits are multiplied by the prior, not probabilities, which shrinks them by
about 1/C (calibrate the ones in `diagnostics`) and, below 0, favours the rarer class; N is the
configured batch size (here None, the batch at hand, unless it is given).
Deviation: a batch of which all images are equally diverse, or equally certain (one image, equal
images), is 0/0 and makes every parameter NaN in the released code. Here it is answered, m moves
with it, and nothing else does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from tttlib.adapt.common.config import Fraction
from tttlib.adapt.common.optimizers import Optimizer
from tttlib.adapt.common.weight_ensembling import WeightEnsembling, WeightEnsemblingConfig, pull


@dataclass(frozen=True, kw_only=True)
class RoidConfig(WeightEnsemblingConfig):
    """Constants.

    Attributes
    ----------
    source_momentum
        mu_s of the ensembling.
    """

    source_momentum: Fraction = 0.99


class Roid(WeightEnsembling, name="roid"):
    """Diagnostics: see `WeightEnsembling`."""

    answer: ClassVar = "of the adapting network, before this batch's update, times the prior"
    presets: ClassVar = {
        "cifar10-c": RoidConfig(),
        "cifar100-c": RoidConfig(),
        "imagenet-c": RoidConfig(optimizer="sgd", lr=2.5e-4),
    }

    def make_optimizer(self) -> Optimizer | None:
        """Remember theta_0."""
        self._source = [parameter.detach().clone() for parameter in self.parameters]
        return super().make_optimizer()

    def ensemble(self, moved: Tensor) -> None:
        """Average with the source: theta <- mu_s theta + (1-mu_s) theta_0."""
        pull(self.parameters, self._source, (1 - self.config.source_momentum) * moved)
