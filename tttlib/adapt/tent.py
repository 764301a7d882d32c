"""TENT: scale and shift of the normalisation layers follow the gradient of the mean entropy.

Paper: Wang et al., Tent: Fully Test-Time Adaptation by Entropy Minimization, ICLR 2021,
arXiv 2006.10726; equation 2: L = mean_b H(softmax(z_b)). BatchNorm layers use batch statistics. One
update for each batch, logits from before it; continual: nothing is reset unless the caller does.
loss="come" takes COME's entropy (`losses.come`) in place of H.

Constants of the continual tables (CoTTA's and PALM's) are Adam 1e-3 for CIFAR, and SGD 2.5e-4 with
Nesterov momentum 0.9 for ImageNet. PALM ships 1e-5 and 2e-5, which do not give its tables.
Known deviations: none. LayerNorm and GroupNorm are trained too, as later codes do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from tttlib.adapt.common import parameters
from tttlib.adapt.common.adapter import Adapter, TrainingConfig
from tttlib.adapt.common.batch_norm import use_batch_statistics
from tttlib.adapt.common.config import EntropyConfig
from tttlib.adapt.common.losses import uncertainty


@dataclass(frozen=True, kw_only=True)
class TentConfig(TrainingConfig, EntropyConfig):
    """Constants."""


class Tent(Adapter, name="tent"):
    """Diagnostics: loss, the mean entropy, or COME's, in nats."""

    trains: ClassVar = "scale and shift of normalisation layers"
    presets: ClassVar = {
        "cifar10-c": TentConfig(),
        "cifar100-c": TentConfig(),
        "imagenet-c": TentConfig(optimizer="sgd", lr=2.5e-4),
    }

    def configure(self) -> list[str]:
        """Train scale and shift of the normalisation layers, with batch statistics."""
        use_batch_statistics(self.model)
        return parameters.norm_affine(self.model)

    def step(self, images: Tensor) -> Tensor:
        """Answer a batch and follow its entropy (equation 2)."""
        logits = self.model(images)
        loss = uncertainty(logits, self.config).mean()
        self.learn(loss)
        self.diagnostics = {"loss": loss.detach()}
        return logits
