"""Surgical fine-tuning: only the network's first block learns, from entropy and agreement.

Papers: Lee et al., Surgical Fine-Tuning Improves Adaptation to Distribution Shifts, ICLR 2023,
arXiv 2210.11466 (supervised, with a few labels); here the unsupervised baseline of PALM (Maharana
et al., AAAI 2025, arXiv 2403.10650), which its code defines:
    L = mean over {b: H(z_b) < 0.4 ln C} of H(z_b) + lambda CE(z||z'),
z' the logits of an augmented view, gradients through both. BatchNorm layers use batch statistics;
SGD with Nesterov momentum, one update for each batch, logits from before it.

Convolutions and norms of the first stage, `layer1`, `block1` or `stage_1`, are trained; the stem is
not, although PALM's text says "first convolutional block". Of a transformer it is block 0.
Known deviations: without a reliable image the entropy term is 0 (NaN in the code, whose gradient
is 0). The code also updates running statistics that nothing reads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from tttlib.adapt.common import parameters
from tttlib.adapt.common.adapter import Adapter, TrainingConfig, ViewConfig
from tttlib.adapt.common.batch_norm import use_batch_statistics
from tttlib.adapt.common.config import AdamOrSgd, NotNegative
from tttlib.adapt.common.losses import reliable_entropy


@dataclass(frozen=True, kw_only=True)
class SurgicalConfig(TrainingConfig, ViewConfig):
    """Constants.

    Attributes
    ----------
    margin
        In nats; None is 0.4 ln C.
    consistency
        lambda.
    """

    optimizer: AdamOrSgd = "sgd"
    margin: float | None = None
    consistency: NotNegative = 0.01


class Surgical(Adapter, name="surgical"):
    """Diagnostics: loss, and reliable, the number of reliable images."""

    trains: ClassVar = "convolutions and normalisation layers of the first block"
    presets: ClassVar = {
        "cifar10-c": SurgicalConfig(),
        "cifar100-c": SurgicalConfig(),
        "imagenet-c": SurgicalConfig(lr=5e-4),
    }

    def configure(self) -> list[str]:
        """Train convolutions and norms of the first block, with batch statistics."""
        use_batch_statistics(self.model)
        names = parameters.first_block(self.model)
        if not names:
            raise ValueError(
                "surgical trains the first block of a network, which it knows by the names layer1, "
                "block1, stage_1 or blocks.0; this model has none of them"
            )
        return names

    def step(self, images: Tensor) -> Tensor:
        """Answer a batch and follow entropy and consistency."""
        logits = self.model(images)
        loss, reliable = reliable_entropy(logits, self.config.margin)
        loss = loss + self.inconsistency(logits, images, self.config.consistency)
        self.learn(loss)
        self.diagnostics = {"loss": loss.detach(), "reliable": reliable.sum()}
        return logits
