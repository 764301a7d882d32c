"""RoTTA: the student learns from a teacher on a small bank of images that is even over classes.

Paper: Yuan, Xie and Li, Robust Test-Time Adaptation in Dynamic Scenarios, CVPR 2023,
arXiv 2303.13899. Student and teacher have robust BatchNorm layers each (`Robust` in
`common/mixed_batch_norm.py`), whose statistics move in updates alone. For each batch, with logits z
of the teacher, p = softmax(z), image by image in their order:
    y_b = argmax z_b, u_b = -sum_c p_bc ln(p_bc + 1e-6);  offer (x_b, y_b, u_b) to the bank
    after every F-th image since the start: one update
Update on the bank's n images X (`common/category_bank.py`) with ages a_i, in units of its capacity:
    t = teacher(X), s = student(view(X)),  both BatchNorms in training mode
    L = (1/n) sum_i sigmoid(-a_i) CE(t_i||s_i);   one Adam step of the student
    teacher <- (1-nu) teacher + nu student,  parameters only: each keeps its own statistics
The answer is z, from before the updates of its batch.

Constants are those of the official code, the same for all datasets, written for batches of 64; with
200 images and F = 64 a batch has three or four updates.
Deviations: LayerNorm and GroupNorm are trained too, so that a network without BatchNorm works;
dropout stays off in updates; images whose prediction is not finite do not enter the bank. Labels
and uncertainties of a batch are read back from the device at once. The bank is part of the state.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tttlib.adapt.common import category_bank, parameters
from tttlib.adapt.common.adapter import Adapter, TrainingConfig, ViewConfig, everywhere
from tttlib.adapt.common.config import Count, Fraction, NotNegative
from tttlib.adapt.common.losses import cross_entropies
from tttlib.adapt.common.mixed_batch_norm import Robust, use_mixed_statistics
from tttlib.adapt.common.networks import copy_of
from tttlib.adapt.common.running_statistics import moving_statistics

EPS = 1e-6


@dataclass(frozen=True, kw_only=True)
class RottaConfig(TrainingConfig, ViewConfig):
    """Constants.

    Attributes
    ----------
    capacity
        N, in images.
    update_every
        F, in images.
    teacher_rate
        nu of the moving average.
    bn_momentum
        a, share of the batch in the moving statistics.
    lambda_t, lambda_u
        Weights of age and uncertainty in the bank.
    """

    capacity: Count = 64
    update_every: Count = 64
    teacher_rate: Fraction = 1e-3
    bn_momentum: Fraction = 0.05
    lambda_t: NotNegative = 1.0
    lambda_u: NotNegative = 1.0


class Rotta(Adapter, name="rotta"):
    """Networks "model" (the student) and "teacher".

    Diagnostics: uncertainty (mean u), bank (number of images in it), updates (how many), and loss,
    of the last update if there was one.
    """

    trains: ClassVar = "scale and shift of normalisation layers"
    answer: ClassVar = "of the teacher, before this batch's update"
    presets: ClassVar = everywhere(RottaConfig())

    def configure(self) -> list[str]:
        """Make the layers robust and a teacher; train scale and shift of the student's norms."""
        use_mixed_statistics(self.model, self.config.bn_momentum, Robust)
        self.teacher = self.networks["teacher"] = copy_of(self.model)
        names = parameters.norm_affine(self.model)
        self._teacher: list[Tensor] = [self.teacher.get_parameter(name) for name in names]
        self.memory |= {"bank": [], "seen": 0}  # the first batch tells how many lists
        return names

    def predict(self, images: Tensor) -> Tensor:
        """Return the teacher's logits [B,C]."""
        with torch.no_grad():
            return self.teacher(self._received(images))

    def step(self, images: Tensor) -> Tensor:
        """Answer with the teacher, and fill the bank, which the student learns from."""
        config, memory = self.config, self.memory
        with torch.no_grad():
            logits = self.teacher(images)
            p = logits.softmax(1)
            u = -(p * torch.log(p + EPS)).sum(1)  # [B]
            labels, uncertainties = torch.stack([logits.argmax(1).to(u.dtype), u]).tolist()
        memory["bank"] = memory["bank"] or [[] for _ in range(logits.shape[1])]
        updates, losses = 0, {}
        how = {"lambda_t": config.lambda_t, "lambda_u": config.lambda_u}
        for image, y, certain in zip(images, labels, uncertainties, strict=True):
            category_bank.add(
                memory["bank"], image, int(y), certain, capacity=config.capacity, **how
            )
            memory["seen"] += 1
            if memory["seen"] % config.update_every == 0 and any(memory["bank"]):
                losses["loss"] = self._update()
                updates += 1
        held, updated = u.new_tensor([sum(map(len, memory["bank"])), updates])
        counts = {"bank": held, "updates": updated}
        self.diagnostics = {"uncertainty": u.mean(), **counts, **losses}
        return logits

    def _update(self) -> Tensor:
        """Let the student learn from the teacher on the bank, and the teacher follow; returns L."""
        items = list(category_bank.items(self.memory["bank"]))
        x = torch.stack([item["image"] for item in items])  # [n,3,H,W]
        x = x.contiguous(memory_format=self._format)
        ages = x.new_tensor([item["age"] / self.config.capacity for item in items])  # [n]
        with moving_statistics(self.model, self.teacher):
            with torch.no_grad():
                target = self.teacher(x)
            logits = self.model(self.augment(x))
        loss = (torch.sigmoid(-ages) * cross_entropies(target, logits)).mean()
        self.learn(loss)
        with torch.no_grad():
            torch._foreach_lerp_(self._teacher, self.parameters, self.config.teacher_rate)
        return loss.detach()
