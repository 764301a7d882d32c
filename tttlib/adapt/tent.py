"""TENT: scale and shift of the normalisation layers follow the gradient of the mean entropy.

Paper: Wang et al., Tent: Fully Test-Time Adaptation by Entropy Minimization, ICLR 2021,
arXiv 2006.10726; equation 2: L = mean_b H(softmax(z_b)). BatchNorm layers use batch statistics. One
update for each batch, logits from before it; continual: nothing is reset unless the caller does.

Constants of the continual tables (CoTTA's and PALM's): Adam 1e-3 for CIFAR; SGD 2.5e-4 with
Nesterov momentum 0.9 for ImageNet. PALM ships 1e-5 and 2e-5, which do not give its tables.
Known deviations: none. LayerNorm and GroupNorm are trained too, as later codes do.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from tttlib.adapt.common import parameters
from tttlib.adapt.common.adapter import Adapter, TrainingConfig
from tttlib.adapt.common.batch_norm import use_batch_statistics
from tttlib.adapt.common.losses import entropy


class Tent(Adapter, name="tent"):
    """diagnostics: loss (the mean entropy, in nats)."""

    presets: ClassVar = {
        "cifar10-c": TrainingConfig(),
        "cifar100-c": TrainingConfig(),
        "imagenet-c": TrainingConfig(optimizer="sgd", lr=2.5e-4),
    }

    def configure(self) -> list[str]:
        use_batch_statistics(self.model)
        names = parameters.norm_affine(self.model)
        if not names:
            raise ValueError(
                "tent trains scale and shift of normalisation layers, and this model has none; "
                "use source"
            )
        return names

    def step(self, images: Tensor) -> Tensor:
        logits = self.model(images)
        loss = entropy(logits).mean()
        assert self.optimizer is not None
        self.optimizer.step(self.gradients(loss))
        self.diagnostics = {"loss": loss.detach()}
        return logits
