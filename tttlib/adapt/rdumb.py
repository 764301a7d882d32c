"""RDumb: ETA, and back to the source every N batches.

Paper: Press et al., RDumb: A simple approach that questions our progress in continual test-time
adaptation, NeurIPS 2023, arXiv 2306.05401. The equations of ETA are in
`common/selected_entropy.py`. After batch N, 2N, ...:
    theta <- theta_0,   the optimiser forgets,   m <- none

Constants are those of a collection of released codes: N = 1000, which the paper chose on held-out
noises of ImageNet in batches of 64, so that 15 corruptions of 10,000 images in batches of 200 never
reset; eps = 0.4 for CIFAR-100 too, where EATA has 0.1. N counts batches, also those without an
update; with `steps` above 1 every step counts.
Known deviations: the paper's code resets at the start of the next batch; the answers are the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tttlib.adapt.common.config import Count
from tttlib.adapt.common.optimizers import Optimizer
from tttlib.adapt.common.selected_entropy import SelectedEntropy, SelectedEntropyConfig


@dataclass(frozen=True, kw_only=True)
class RDumbConfig(SelectedEntropyConfig):
    """Constants.

    Attributes
    ----------
    reset_every
        N.
    """

    reset_every: Count = 1000


class RDumb(SelectedEntropy, name="rdumb"):
    """Diagnostics: loss; reliable and selected, numbers of images; resets, how many so far."""

    presets: ClassVar = {
        "cifar10-c": RDumbConfig(),
        "cifar100-c": RDumbConfig(),
        "imagenet-c": RDumbConfig(optimizer="sgd", lr=2.5e-4, redundancy=0.05),
    }

    def make_optimizer(self) -> Optimizer | None:
        """Prepare the memory, with the source's values."""
        self.memory["source"] = [p.detach().clone() for p in self.parameters]  # theta_0
        self.memory["batches"] = 0
        return super().make_optimizer()

    def step(self, images: Tensor) -> Tensor:
        """Answer a batch as ETA, and begin anew after every N-th."""
        logits = super().step(images)
        self.memory["batches"] += 1
        if self.memory["batches"] % self.config.reset_every == 0:
            self._begin_anew()
        resets = self.memory["batches"] // self.config.reset_every
        self.diagnostics["resets"] = torch.tensor(resets)
        return logits

    @torch.no_grad()
    def _begin_anew(self) -> None:
        torch._foreach_copy_(self.parameters, self.memory["source"])
        if self.optimizer is not None:
            self.optimizer.load_state_dict(self._initial["optimizer"])
        self.memory["known"] = torch.zeros_like(self.memory["known"])
