"""DSS, a reconstruction: CoTTA whose student trusts only pseudo-labels above a moving threshold.

Paper: Wang et al., Continual Test-time Domain Adaptation via Dynamic Sample Selection, WACV 2024,
arXiv 2310.03335. There is no public code, and what follows is not the paper's text. Known are its
three parts: a dynamic threshold between pseudo-labels of high and low quality, joint positive and
negative learning, and CoTTA's teacher around them. Numbers obtained with it are no reproduction.
Chosen here, with logits z_T of CoTTA's teacher, c_b = max_c softmax(z_T), p = softmax(z):
    tau <- mu tau + (1-mu) mean_b c_b     (the mean itself for the first batch)
    high = {b: c_b >= tau},   N_b = {c: softmax(z_T)_bc < 1/C}
    L = (1/B) sum_{b in high} CE(z_T||z)_b
        + (1/B) sum_b sum_{c in N_b} -log(1 - p_bc + 1e-8) / |N_b|
Teacher, restoration, optimiser and answer are CoTTA's; the loss is the same for all datasets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tttlib.adapt.common.config import Fraction
from tttlib.adapt.common.mean_teacher import MeanTeacher, MeanTeacherConfig

EPS = 1e-8


@dataclass(frozen=True, kw_only=True)
class DssConfig(MeanTeacherConfig):
    """Constants.

    Attributes
    ----------
    threshold_momentum
        mu of the moving threshold.
    """

    threshold_momentum: Fraction = 0.9


class Dss(MeanTeacher, name="dss"):
    """Diagnostics: loss, threshold (tau), high (number of trusted images), and CoTTA's."""

    presets: ClassVar = {
        "cifar10-c": DssConfig(),
        "cifar100-c": DssConfig(confidence=0.72),
        "imagenet-c": DssConfig(optimizer="sgd", lr=0.01, confidence=0.1, restore=0.001),
    }

    def configure(self) -> list[str]:
        """Prepare the networks of CoTTA and the threshold."""
        names = super().configure()
        self.memory["threshold"] = next(self.model.parameters()).new_tensor(-1.0)  # none yet
        return names

    def step(self, images: Tensor) -> Tensor:
        """Answer with the teacher, whose confident labels the student learns from."""
        self.diagnostics = {}
        logits = self.model(images)
        target = self.teach(images)
        # Dynamic threshold between pseudo-labels of high and low quality
        soft = target.softmax(1)
        confidence = soft.amax(1)  # [B]
        threshold = self._move_threshold(confidence.mean())
        high = confidence >= threshold
        # Joint positive and negative learning
        loss = (positive(soft, logits) * high).sum() / len(images)
        loss = loss + negative(soft, logits).mean()
        self.learn(loss)
        self.follow()
        self.restore()
        self.diagnostics |= {"loss": loss.detach(), "threshold": threshold, "high": high.sum()}
        return target

    def _move_threshold(self, mean: Tensor) -> Tensor:
        """Update tau and return it; a mean that is not finite leaves it as it is."""
        old, mu = self.memory["threshold"], self.config.threshold_momentum
        new = torch.where(old < 0, mean, mu * old + (1 - mu) * mean)
        self.memory["threshold"] = torch.where(new.isfinite(), new, old)
        return self.memory["threshold"]


def positive(target: Tensor, logits: Tensor) -> Tensor:
    """Return the cross-entropy of each image with probabilities `target`, [B]."""
    return -(target * logits.log_softmax(1)).sum(1)


def negative(target: Tensor, logits: Tensor) -> Tensor:
    """Return each image's mean of -log(1-p_c) over the classes below 1/C in `target`, [B]."""
    unlikely = target < 1 / target.shape[1]
    terms = -torch.log(1 - logits.softmax(1) + EPS) * unlikely
    return terms.sum(1) / unlikely.sum(1).clamp(min=1)
