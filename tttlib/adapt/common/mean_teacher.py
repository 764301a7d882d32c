"""A student, its slowly following teacher and the source model: what CoTTA and DSS share.

Wang et al., Continual Test-Time Domain Adaptation, CVPR 2022, arXiv 2203.13591, equations 1 to 4
and 7 to 8. No method by itself: the loss is missing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from tttlib.adapt.common import parameters
from tttlib.adapt.common.adapter import Adapter, TrainingConfig, ViewConfig, at_least, copy_of
from tttlib.adapt.common.batch_norm import use_batch_statistics, views

IMAGES_AT_ONCE = 256  # of the teacher's views on a GPU; bounds the memory


@dataclass(frozen=True, kw_only=True)
class MeanTeacherConfig(TrainingConfig, ViewConfig):
    """Constants of teacher and restoration.

    restore           probability with which an element of the student goes back to the source's
    confidence        p_th: the teacher sees views if the source model's mean confidence is below;
                      above 1 it always does, 0 never
    teacher_momentum  m of the moving average
    n_augmentations   views
    views_at_once     how many views are one forward pass; results are the same but for rounding.
                      None: one on the CPU, where more were up to twice as slow (WRN-16, 10 to 200
                      images); on a GPU as many as make up 256 images
    """

    restore: float = 0.01
    confidence: float = 0.92
    teacher_momentum: float = 0.999
    n_augmentations: int = 32
    views_at_once: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("restore", "teacher_momentum"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in [0,1], not {getattr(self, name)}")
        at_least("confidence", self.confidence, 0)
        at_least("n_augmentations", self.n_augmentations, 1)
        if self.views_at_once is not None:
            at_least("views_at_once", self.views_at_once, 1)


class MeanTeacher(Adapter):
    """Networks "model" (the student), "teacher" and "anchor" (the source); all use batch statistics
    and differ in the weights and biases alone."""

    def configure(self) -> list[str]:
        use_batch_statistics(self.model)
        self.teacher = self.networks["teacher"] = copy_of(self.model)
        self.anchor = self.networks["anchor"] = copy_of(self.model)
        names = parameters.all_weights(self.model)
        if not names:
            raise ValueError(f"{self.name} trains weights and biases, and this model has none")
        teacher = dict(self.teacher.named_parameters())
        source = dict(self.anchor.named_parameters())
        self._teacher: list[Tensor] = [teacher[name] for name in names]
        self._source: list[Tensor] = [source[name] for name in names]
        return names

    def predict(self, images: Tensor) -> Tensor:
        """What the next call would answer: the teacher, on the views that would come next."""
        before = self.generator.get_state()
        try:
            return self.teach(self._received(images))
        finally:
            self.generator.set_state(before)

    @torch.no_grad()
    def teach(self, images: Tensor) -> Tensor:
        """The teacher's logits [B,C], of views averaged where the source model is unsure."""
        augmented = self._unsure(images)
        self.diagnostics["augmented"] = torch.tensor(augmented)
        if not augmented:
            return self.teacher(images)
        return sum(self._view_logits(images)) / self.config.n_augmentations

    def _unsure(self, images: Tensor) -> bool:
        """Whether views are needed. One number is read back, which can save all of them."""
        threshold = self.config.confidence
        if threshold > 1 or threshold == 0:
            return threshold > 1
        confidence = self.anchor(images).softmax(1).amax(1).mean()
        self.diagnostics["confidence"] = confidence
        return bool(confidence < threshold)

    def _view_logits(self, images: Tensor) -> Iterator[Tensor]:
        """Sums of logits [B,C] over some of the views. Each view has its own batch statistics."""
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
        """teacher <- m teacher + (1-m) student, weights and biases only."""
        torch._foreach_lerp_(self._teacher, self.parameters, 1 - self.config.teacher_momentum)

    @torch.no_grad()
    def restore(self) -> None:
        """Every element of the student is the source's again with probability `restore`."""
        share = self.config.restore
        if not share:
            return
        device = self.parameters[0].device
        seed = int(torch.randint(2**62, (), generator=self.generator))
        random = torch.Generator(device).manual_seed(seed)
        for parameter, source in zip(self.parameters, self._source, strict=True):
            draws = torch.rand(parameter.shape, generator=random, device=device)
            parameter.copy_(torch.where(draws < share, source, parameter))
