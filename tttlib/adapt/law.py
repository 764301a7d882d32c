"""LAW: every tensor has its own learning rate, larger where its Fisher information is.

Paper: Park et al., Layer-wise Auto-Weighting for Non-Stationary Test-Time Adaptation, WACV 2024,
arXiv 2311.05858. For each trained tensor n of a batch:
    g_n = d/dtheta_n of the mean of -log softmax(z_b)[argmax z_b],   F_n <- F_n + g_n^2,
    v_n = sqrt(mean F_n),   w_n = ((v_n - min v) / (max v - min v + 1e-8))^tau,   lr_n = lr w_n;
then one step of L = mean_b H(z_b) + lambda C CE(z||z'), z' of an augmented view, gradients through
both. Convolutions and norms are trained, BatchNorm layers use batch statistics, and the logits are
those from before the update.

variant "released" does as the code does, "paper" as the text says. They differ in
    stale_grad  the code does not clear gradients: from the second batch on the previous batch's
                dL/dtheta is in g_n
Both make a new Adam for each batch, whose first and only step is -lr_n g / (|g| + 1e-8).
PALM's copy of LAW has lambda = 0.1, 1 and 10 for the three datasets instead of 0.01 and multiplies
by C all the same; `consistency` gives that setting.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from tttlib.adapt.common import parameters
from tttlib.adapt.common.adapter import Adapter, UpdateConfig, ViewConfig
from tttlib.adapt.common.batch_norm import use_batch_statistics
from tttlib.adapt.common.config import NotNegative
from tttlib.adapt.common.losses import entropy
from tttlib.adapt.common.optimizers import gated, move, normalised, zeros_like


@dataclass(frozen=True, kw_only=True)
class LawConfig(UpdateConfig, ViewConfig):
    """Constants.

    Attributes
    ----------
    tau
        Exponent of the weights.
    consistency
        lambda, which C multiplies.
    variant, stale_grad
        See the header of this file.
    """

    tau: NotNegative = 1.0
    consistency: NotNegative = 0.01
    variant: str = "released"
    stale_grad: bool = True


class Law(Adapter, name="law"):
    """Diagnostics: loss, and lr [n] of every trained tensor."""

    trains: ClassVar = "convolutions and normalisation layers"
    variants: ClassVar = {"released": {}, "paper": {"stale_grad": False}}
    presets: ClassVar = {
        "cifar10-c": LawConfig(),
        "cifar100-c": LawConfig(lr=5e-5, tau=0.6),
        "imagenet-c": LawConfig(lr=2e-4),
    }

    def configure(self) -> list[str]:
        """Train convolutions and norms, with batch statistics."""
        use_batch_statistics(self.model)
        return parameters.convolutions_and_norms(self.model)

    def make_optimizer(self) -> None:
        """Prepare the memory: Fisher information, and the gradients of the last batch."""
        self.memory["fisher"] = zeros_like(self.parameters)
        if self.config.stale_grad:
            self.memory["stale"] = zeros_like(self.parameters)

    def step(self, images: Tensor) -> Tensor:
        """Answer a batch, add to the Fisher information, and follow entropy and consistency."""
        config, memory = self.config, self.memory
        logits = self.model(images)
        # Gradient of the likelihood of the own predictions
        likelihood = F.cross_entropy(logits, logits.argmax(1))
        g = self.gradients(likelihood, keep_graph=True)
        # Gradient of the loss that adapts
        weight = config.consistency * logits.shape[1]
        loss = entropy(logits).mean() + self.inconsistency(logits, images, weight)
        q = self.gradients(loss)
        with torch.no_grad():
            # Fisher information, and a rate for every tensor
            if config.stale_grad:
                torch._foreach_add_(g, memory["stale"])
            _, g = gated(g)
            torch._foreach_addcmul_(memory["fisher"], g, g)
            rates = self._weights() * config.lr
            # One step of a new Adam
            ok, q = gated(q)
            if config.stale_grad:
                torch._foreach_copy_(memory["stale"], q)
            if config.weight_decay:
                torch._foreach_add_(q, self.parameters, alpha=config.weight_decay)
            move(self.parameters, normalised(q), rates * ok)
        self.diagnostics = {"loss": loss.detach(), "lr": rates}
        return logits

    def _weights(self) -> Tensor:
        """Return w_n of every tensor, [n]."""
        sums = torch.stack(list(torch._foreach_norm(self.memory["fisher"], ord=1)))
        v = (sums / self.sizes).sqrt()
        return ((v - v.min()) / (v.max() - v.min() + 1e-8)) ** self.config.tau
