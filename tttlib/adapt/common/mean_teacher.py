"""A student, its slowly following teacher and the source model: what CoTTA and DSS share.

Wang et al., Continual Test-Time Domain Adaptation, CVPR 2022, arXiv 2203.13591, equations 1 to 4
and 7 to 8. This is no method by itself: the loss is missing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tttlib.adapt.common import parameters
from tttlib.adapt.common.adapter import Adapter, TrainingConfig, ViewConfig
from tttlib.adapt.common.batch_norm import use_batch_statistics, views
from tttlib.adapt.common.config import Count, Fraction, NotNegative
from tttlib.adapt.common.networks import copy_of

IMAGES_AT_ONCE = 256  # of the teacher's views on a GPU; bounds the memory


@dataclass(frozen=True, kw_only=True)
class MeanTeacherConfig(TrainingConfig, ViewConfig):
    """Constants of teacher and restoration.

    Attributes
    ----------
    restore
        Probability with which an element of the student goes back to the source's.
    confidence
        p_th: the teacher sees views if the source model's mean confidence is below it. Above 1 it
        always does, with 0 never.
    teacher_momentum
        m of the moving average.
    n_augmentations
        Number of views.
    views_at_once
        How many views are one forward pass; results are the same except for rounding. None is one
        on the CPU, where more were up to twice as slow (WRN-16, 10 to 200 images), and on a GPU as
        many as make up 256 images.
    """

    restore: Fraction = 0.01
    confidence: NotNegative = 0.92
    teacher_momentum: Fraction = 0.999
    n_augmentations: Count = 32
    views_at_once: Count | None = None


class MeanTeacher(Adapter):
    """Networks "model" (the student), "teacher" and "anchor" (the source).

    All use batch statistics and differ in the weights and biases alone.
    """

    trains: ClassVar = "weights and biases"
    answer: ClassVar = "of the teacher, before this batch's update"

    def configure(self) -> list[str]:
        """Make teacher and anchor; all weights and biases of the student are trained."""
        use_batch_statistics(self.model)
        self.teacher = self.networks["teacher"] = copy_of(self.model)
        self.anchor = self.networks["anchor"] = copy_of(self.model)
        names = parameters.all_weights(self.model)
        self._teacher: list[Tensor] = [self.teacher.get_parameter(name) for name in names]
        self._source: list[Tensor] = [self.anchor.get_parameter(name) for name in names]
        return names

    def predict(self, images: Tensor) -> Tensor:
        """Return what the next call would: the teacher's answer on the views that come next."""
        before = self.generator.get_state()
        try:
            return self.teach(self._received(images))
        finally:
            self.generator.set_state(before)

    @torch.no_grad()
    def teach(self, images: Tensor) -> Tensor:
        """Return the teacher's logits [B,C], averaged over views where the source is unsure."""
        augmented = self._unsure(images)
        self.diagnostics["augmented"] = torch.tensor(augmented)
        if not augmented:
            return self.teacher(images)
        return sum(self._view_logits(images)) / self.config.n_augmentations

    def _unsure(self, images: Tensor) -> bool:
        """Return whether views are needed; one number is read back, which can save all of them."""
        threshold = self.config.confidence
        if threshold > 1 or threshold == 0:
            return threshold > 1
        confidence = self.anchor(images).softmax(1).amax(1).mean()
        self.diagnostics["confidence"] = confidence
        return bool(confidence < threshold)

    def _view_logits(self, images: Tensor) -> Iterator[Tensor]:
        """Yield sums of logits [B,C] over some of the views; each has its own batch statistics."""
        left, b = self.config.n_augmentations, len(images)
        at_once = self.config.views_at_once
        if at_once is None:
            at_once = 1 if images.device.type == "cpu" else max(1, IMAGES_AT_ONCE // b)
        while left:
            v = min(at_once, left)
            left -= v
            if v == 1:
                yield self.teacher(self.augment(images))
                continue
            several = torch.stack([self.augment(images) for _ in range(v)], 1)  # [B,V,3,H,W]
            with views(self.teacher, v):
                logits = self.teacher(several.flatten(0, 1))  # [B V,C]
            yield logits.view(b, v, -1).sum(1)

    @torch.no_grad()
    def follow(self) -> None:
        """Move the teacher: teacher <- m teacher + (1-m) student, weights and biases only."""
        torch._foreach_lerp_(self._teacher, self.parameters, 1 - self.config.teacher_momentum)

    @torch.no_grad()
    def restore(self) -> None:
        """Set every element of the student back to the source's with probability `restore`."""
        share = self.config.restore
        if not share:
            return
        device = self.parameters[0].device
        seed = int(torch.randint(2**62, (), generator=self.generator))
        random = torch.Generator(device).manual_seed(seed)
        for parameter, source in zip(self.parameters, self._source, strict=True):
            draws = torch.rand(parameter.shape, generator=random, device=device)
            parameter.copy_(torch.where(draws < share, source, parameter))
