"""CoTTA: the student learns from a teacher that averages over time and over augmented views.

Paper: Wang et al., Continual Test-Time Domain Adaptation, CVPR 2022, arXiv 2203.13591. For each
batch, with logits z of the student and z_T of the teacher (equations 1 to 8):
    z_T = mean over 32 views of teacher(view)   if the source model's mean confidence < p_th,
          teacher(x)                            else
    L = mean_b -sum_c softmax(z_T) log softmax(z);   one step of the student
    teacher <- m teacher + (1-m) student
    student <- source where Bernoulli(p) is 1, elementwise
All weights and biases are trained, all networks use batch statistics, and the answer is z_T, from
before the update.

Followed is the released code where it and the text differ: one decision for the whole batch instead
of one per image (equation 4); logits, not probabilities, are averaged; a view's random numbers hold
for the whole batch; restoration comes after the teacher's step, so the teacher sees the student
before it. symmetric=True is the ImageNet code's loss, (CE(z_T||z) + CE(z||z_T)) / 2.
Known deviations: none in the numbers. Views are only made when they are used, as later codes do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from tttlib.adapt.common.losses import cross_entropy
from tttlib.adapt.common.mean_teacher import MeanTeacher, MeanTeacherConfig


@dataclass(frozen=True, kw_only=True)
class CottaConfig(MeanTeacherConfig):
    """Constants.

    Attributes
    ----------
    symmetric
        Whether half of the loss is CE(z||z_T).
    """

    symmetric: bool = False


class Cotta(MeanTeacher, name="cotta"):
    """Diagnostics: loss, augmented (bool), confidence of the source model where it was asked."""

    presets: ClassVar = {
        "cifar10-c": CottaConfig(),
        "cifar100-c": CottaConfig(confidence=0.72),
        "imagenet-c": CottaConfig(
            optimizer="sgd", lr=0.01, confidence=0.1, restore=0.001, symmetric=True
        ),
    }

    def step(self, images: Tensor) -> Tensor:
        """Answer with the teacher, which the student then learns from."""
        self.diagnostics = {}
        logits = self.model(images)
        # Equations 1 to 4: the teacher's answer, averaged over views where the source is unsure
        target = self.teach(images)
        # Equation 5: consistency of student and teacher
        loss = cross_entropy(target, logits)
        if self.config.symmetric:
            loss = (loss + cross_entropy(logits, target)) / 2
        self.learn(loss)
        # Equation 6: moving average; equations 7 and 8: stochastic restoration
        self.follow()
        self.restore()
        self.diagnostics["loss"] = loss.detach()
        return target
