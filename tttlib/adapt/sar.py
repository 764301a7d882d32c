"""SAR: the entropy of reliable images, at the worst nearby weights; back to the source if it fails.

Paper: Niu et al., Towards Stable Test-Time Adaptation in Dynamic Wild World, ICLR 2023,
arXiv 2302.12400. For each batch, with logits z and H the entropy:
    (1)  reliable: H_b < E_0;   g = d/dtheta mean H of the reliable
    (2)  theta~ = theta + rho g / (|g| + 1e-12), |g| over all trained tensors together
    (3)  still reliable: of the reliable, those with H~_b < E_0, H~ at theta~;   L = mean H~ of them
    (4)  e <- .9 e + .1 L, L itself if there was none; only if an image is still reliable
    (5)  one step of SGD with dL/dtheta~, from theta
    (6)  theta <- theta_0 and e <- none if e < e_m
BatchNorm layers use batch statistics, both passes see all images, and the answer is the z of the
first pass. The norms of the last stage are not trained; that goes by names, see
`parameters.lower_norms`.

Constants are those of a collection of released codes; the official ones for ViT-B are 1e-3/64 for
each image of the batch, and twice as much for batches of one. e_m = 0.2 nats is meant for 1000
classes: with 10 a good network's reliable images are near it, so look at `recoveries`.
Without a reliable image the gradient is 0 and the step is taken all the same: momentum moves theta.
A recovery (6) keeps the momentum, as both codes do; `reset` clears it. The official code writes e
back after a recovery and recovers in each following batch; here e is forgotten, as in the
collection. loss="come" takes COME's entropy (`losses.come`) for H, which is low where the network
is *unsure*, too: set `margin` and `reset_below` with it. Known deviations: none in the numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tttlib.adapt.common import parameters
from tttlib.adapt.common.adapter import Adapter, UpdateConfig
from tttlib.adapt.common.batch_norm import use_batch_statistics
from tttlib.adapt.common.config import EntropyConfig, NotNegative
from tttlib.adapt.common.losses import margin_of, mean_over, uncertainty
from tttlib.adapt.common.optimizers import Sgd, gated

KEEP = 0.9  # share of the old e


@dataclass(frozen=True, kw_only=True)
class SarConfig(UpdateConfig, EntropyConfig):
    """Constants.

    Attributes
    ----------
    margin
        E_0 in nats; None is 0.4 ln C.
    rho
        How far up the climb goes.
    reset_below
        e_m in nats; 0 is never.
    momentum
        Of SGD.
    """

    margin: float | None = None
    rho: NotNegative = 0.05
    reset_below: NotNegative = 0.2
    momentum: NotNegative = 0.9


class Sar(Adapter, name="sar"):
    """Diagnostics.

    loss
        L.
    reliable, still_reliable
        Numbers of images.
    average
        e before a recovery, NaN if there is none.
    recoveries
        How many so far.
    """

    trains: ClassVar = "scale and shift of normalisation layers before the last stage"
    presets: ClassVar = {
        "cifar10-c": SarConfig(),
        "cifar100-c": SarConfig(),
        "imagenet-c": SarConfig(lr=2.5e-4),
    }

    def configure(self) -> list[str]:
        """Train scale and shift of the norms before the last stage, with batch statistics."""
        use_batch_statistics(self.model)
        return parameters.lower_norms(self.model)

    def make_optimizer(self) -> Sgd:
        """Prepare the memory, and SGD without Nesterov's momentum."""
        config, memory = self.config, self.memory
        memory["source"] = [p.detach().clone() for p in self.parameters]  # theta_0
        memory["average"] = self.sizes.new_full((), torch.nan)  # e; NaN is none
        memory["recoveries"] = torch.zeros_like(self.sizes[0], dtype=torch.int64)
        how = {"momentum": config.momentum, "weight_decay": config.weight_decay}
        self._sgd = Sgd(self.parameters, config.lr, nesterov=False, **how)
        return self._sgd

    def step(self, images: Tensor) -> Tensor:
        """Answer a batch, climb, follow the entropy from there, and recover."""
        logits = self.model(images)
        h = uncertainty(logits, self.config)
        margin = margin_of(logits, self.config.margin)
        # Equation 1: gradient of the reliable images' entropy
        reliable = h < margin
        g = self.gradients(mean_over(h, reliable))
        # Equation 2: the worst weights nearby
        theta = [p.detach().clone() for p in self.parameters]
        self._climb(g)
        # Equation 3: the entropy there, of images that are still reliable
        h = uncertainty(self.model(images), self.config)
        still = reliable & (h < margin)
        loss = mean_over(h, still)
        g = self.gradients(loss)
        # Equation 4: its moving average
        self._follow(loss.detach(), still)
        # Equation 5: a step from where we were
        with torch.no_grad():
            torch._foreach_copy_(self.parameters, theta)
        self._sgd.step(g)
        average = self.memory["average"]
        # Equation 6: recovery
        self._recover()
        self.diagnostics = {
            "loss": loss.detach(),
            "reliable": reliable.sum(),
            "still_reliable": still.sum(),
            "average": average,
            "recoveries": self.memory["recoveries"],
        }
        return logits

    @torch.no_grad()
    def _climb(self, gradients: list[Tensor]) -> None:
        """Move the parameters up (equation 2); not at all if a gradient is not finite."""
        _, g = gated(gradients)
        size = torch.stack(list(torch._foreach_norm(g))).norm()  # of all tensors together
        torch._foreach_mul_(g, self.config.rho / (size + 1e-12))
        torch._foreach_add_(self.parameters, g)

    def _follow(self, loss: Tensor, still: Tensor) -> None:
        """Move e (equation 4)."""
        e = self.memory["average"]
        moved = torch.where(e.isnan(), loss, KEEP * e + (1 - KEEP) * loss)
        self.memory["average"] = torch.where(still.any() & loss.isfinite(), moved, e)

    @torch.no_grad()
    def _recover(self) -> None:
        """Go back to the source if e is too low (equation 6); the momentum stays."""
        memory = self.memory
        low = memory["average"] < self.config.reset_below  # never of NaN
        for parameter, source in zip(self.parameters, memory["source"], strict=True):
            parameter.copy_(torch.where(low, source, parameter))
        memory["average"] = memory["average"].masked_fill(low, torch.nan)
        memory["recoveries"] = memory["recoveries"] + low
