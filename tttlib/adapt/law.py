"""LAW: every tensor has a learning rate of its own, larger where Fisher information is.

Paper: Park et al., Layer-wise Auto-Weighting for Non-Stationary Test-Time Adaptation, WACV 2024,
arXiv 2311.05858. For each trained tensor n of a batch:
    g_n = d/dtheta_n of the mean of -log softmax(z_b)[argmax z_b],   F_n <- F_n + g_n^2,
    v_n = sqrt(mean F_n),   w_n = ((v_n - min v) / (max v - min v + 1e-8))^tau,   lr_n = lr w_n;
then one step of L = mean_b H(z_b) + lambda C CE(z||z'), z' of an augmented view, gradients through
both. Convolutions and norms are trained, BatchNorm layers use batch statistics, logits are those
from before the update.

variant "released" does as the code does, "paper" as the text says. They differ in
    stale_grad  the code does not clear gradients: from the second batch on the previous batch's
                dL/dtheta is in g_n
Both make a new Adam for each batch, whose first and only step is -lr_n g / (|g| + 1e-8).
PALM's copy of LAW has lambda = 0.1, 1 and 10 for the three datasets instead of 0.01 and multiplies
by C all the same; `consistency` gives that setting.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from tttlib.adapt.common import parameters
from tttlib.adapt.common.adapter import Adapter, UpdateConfig, ViewConfig, at_least, choose
from tttlib.adapt.common.batch_norm import use_batch_statistics
from tttlib.adapt.common.losses import cross_entropy, entropy
from tttlib.adapt.common.optimizers import gated, move, normalised

VARIANTS: dict[str, dict[str, Any]] = {"released": {}, "paper": {"stale_grad": False}}


@dataclass(frozen=True, kw_only=True)
class LawConfig(UpdateConfig, ViewConfig):
    """tau: exponent of the weights; consistency: lambda, which C multiplies."""

    tau: float = 1.0
    consistency: float = 0.01
    variant: str = "released"
    stale_grad: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("tau", self.tau, 0)
        at_least("consistency", self.consistency, 0)
        choose("variant", self.variant, tuple(VARIANTS))


class Law(Adapter, name="law"):
    """diagnostics: loss, lr [n] (of every trained tensor)."""

    presets: ClassVar = {
        "cifar10-c": LawConfig(),
        "cifar100-c": LawConfig(lr=5e-5, tau=0.6),
        "imagenet-c": LawConfig(lr=2e-4),
    }

    @classmethod
    def settings(cls, preset: str | None, overrides: Mapping[str, Any]) -> LawConfig:
        overrides = cls.legal(overrides)
        variant = overrides.get("variant", "released")
        choose("variant", variant, tuple(VARIANTS))
        return replace(cls.preset(preset), **{**VARIANTS[variant], **overrides})

    def configure(self) -> list[str]:
        use_batch_statistics(self.model)
        names = parameters.convolutions_and_norms(self.model)
        if not names:
            raise ValueError(
                "law trains convolutions and normalisation layers, and this model has none; "
                "use source"
            )
        return names

    def make_optimizer(self) -> None:
        self.memory["fisher"] = [torch.zeros_like(p, requires_grad=False) for p in self.parameters]
        if self.config.stale_grad:
            self.memory["stale"] = [
                torch.zeros_like(p, requires_grad=False) for p in self.parameters
            ]

    def step(self, images: Tensor) -> Tensor:
        config, memory = self.config, self.memory
        logits = self.model(images)
        likelihood = F.cross_entropy(logits, logits.argmax(1))
        g = self.gradients(likelihood, again=True)
        loss = entropy(logits).mean()
        if config.consistency:
            view = self.model(self.augment(images))
            loss = loss + config.consistency * logits.shape[1] * cross_entropy(logits, view)
        q = self.gradients(loss)
        with torch.no_grad():
            if config.stale_grad:
                torch._foreach_add_(g, memory["stale"])
            _, g = gated(g)
            torch._foreach_addcmul_(memory["fisher"], g, g)
            rates = self._weights() * config.lr
            ok, q = gated(q)
            if config.stale_grad:
                torch._foreach_copy_(memory["stale"], q)
            if config.weight_decay:
                torch._foreach_add_(q, self.parameters, alpha=config.weight_decay)
            move(self.parameters, normalised(q), rates * ok)
        self.diagnostics = {"loss": loss.detach(), "lr": rates}
        return logits

    def _weights(self) -> Tensor:
        """w_n of every tensor: [n]."""
        sums = torch.stack(list(torch._foreach_norm(self.memory["fisher"], ord=1)))
        v = (sums / self.sizes).sqrt()
        return ((v - v.min()) / (v.max() - v.min() + 1e-8)) ** self.config.tau
