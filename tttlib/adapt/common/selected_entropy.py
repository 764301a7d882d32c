"""The entropy of images that are reliable and new: what ETA, EATA and RDumb share.

Niu et al., Efficient Test-Time Model Adaptation without Forgetting, ICML 2022, arXiv 2204.02610.
For each batch, with logits z, p = softmax(z), H the entropy, and m [C] the mean of what was chosen:
    (1)  reliable: H_b < E_0
    (2)  selected: reliable, and |cos(m, p_b)| < eps once there is an m
    (3)  m <- .9 m + .1 mean p of the selected, the mean itself at first
    (4)  L = mean over the selected of exp(E_0 - H_b) H_b, the weight without gradient
and one step of L; logits from before it. Where nothing is selected, nothing changes: no step, so
that momentum does not move anything either, and m stays. This is no method by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from tttlib.adapt.common import parameters
from tttlib.adapt.common.adapter import Adapter, TrainingConfig
from tttlib.adapt.common.batch_norm import use_batch_statistics
from tttlib.adapt.common.config import EntropyConfig, NotNegative
from tttlib.adapt.common.losses import margin_of, mean_over, uncertainty
from tttlib.adapt.common.optimizers import Optimizer

KEEP = 0.9  # share of the old m


@dataclass(frozen=True, kw_only=True)
class SelectedEntropyConfig(TrainingConfig, EntropyConfig):
    """Constants.

    Attributes
    ----------
    margin
        E_0 in nats; None is 0.4 ln C. With loss="come" it belongs to `mass`.
    redundancy
        eps: an image is new if the cosine of its prediction and m is smaller. Above 1 all are.
    """

    margin: float | None = None
    redundancy: NotNegative = 0.4


class SelectedEntropy(Adapter):
    """Memory: "mean" is m, which has a meaning if "known"."""

    trains: ClassVar = "scale and shift of normalisation layers"

    def configure(self) -> list[str]:
        """Train scale and shift of the normalisation layers, with batch statistics."""
        use_batch_statistics(self.model)
        return parameters.norm_affine(self.model)

    def make_optimizer(self) -> Optimizer | None:
        """Prepare the memory, and the optimiser that lasts over the stream."""
        self.memory["mean"] = None  # until the number of classes is known
        self.memory["known"] = torch.zeros_like(self.sizes[0], dtype=torch.bool)
        return super().make_optimizer()

    def step(self, images: Tensor) -> Tensor:
        """Answer a batch and follow the entropy of its selected images."""
        config, memory = self.config, self.memory
        logits = self.model(images)
        h, p = uncertainty(logits, config), logits.detach().softmax(1)
        margin = margin_of(logits, config.margin)
        # Equation 1: reliable images
        reliable = h < margin
        # Equation 2: of these the ones unlike what was selected before
        m = torch.zeros_like(p[0]) if memory["mean"] is None else memory["mean"]
        new = F.cosine_similarity(m[None], p).abs() < config.redundancy
        selected = reliable & (new | ~memory["known"])
        some = selected.any() & logits.isfinite().all()
        # Equation 3: their mean prediction
        mean = mean_over(p.T, selected)
        moved = torch.where(memory["known"], KEEP * m + (1 - KEEP) * mean, mean)
        memory["mean"] = torch.where(some, moved, m)
        memory["known"] = memory["known"] | some
        # Equation 4: their entropy, the surer the more it counts
        loss = mean_over((margin - h.detach()).exp() * h, selected) + self.penalty()
        self.learn(loss, when=some)
        numbers = {"reliable": reliable.sum(), "selected": selected.sum()}
        self.diagnostics = {"loss": loss.detach(), **numbers}
        return logits

    def penalty(self) -> Tensor | float:
        """Return what is added to L; nothing here."""
        return 0.0
