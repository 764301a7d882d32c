"""NEO: the last linear layer sees features minus the mean of those that came so far; no gradients.

Paper: Murphy et al., NEO: No-Optimization Test-Time Adaptation through Latent Re-Centering, ICLR
2026, arXiv 2510.05635. The source model runs with its running statistics; for features f of a batch
of B images, before it is answered:
    rate None    n <- n + B,   c <- (n-B)/n c + B/n mean_b f_b,   c the mean of all features so far
    rate a       c <- (1-a) c + a mean_b f_b,   the continual form; the authors take 0.1
    z = W (f - c) + b
c is 0 at the start. Formulas from the authors' code; the paper's proofs were not at hand.

Traps: the first image of a stream that comes one by one is answered with the bias alone (f = c).
The method takes features of clean images for centred, as after a transformer's last LayerNorm;
after ReLU and pooling they are not, and on clean images re-centring then does damage.
Known deviations: features that are not finite are not counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from tttlib.adapt.common.adapter import Adapter, Config, everywhere
from tttlib.adapt.common.config import Fraction
from tttlib.adapt.common.last_layer import LastLayer


@dataclass(frozen=True, kw_only=True)
class NeoConfig(Config):
    """Constants.

    Attributes
    ----------
    rate
        a; None is the mean of all features so far.
    """

    rate: Fraction | None = None


class Neo(Adapter, name="neo"):
    """Diagnostics: centre, the length of c, and features, the mean length of f."""

    answer: ClassVar = "of the source network on re-centred features, this batch's counted"
    needs = ("last linear layer",)
    presets: ClassVar = everywhere(NeoConfig())

    def configure(self) -> list[str]:
        """Begin with the centre 0; nothing is trained."""
        self._last = LastLayer(self.model, self.name)
        weight = self._last.of(self.model).weight.detach()
        wide = torch.promote_types(weight.dtype, torch.float32)
        self.memory["centre"] = weight.new_zeros(weight.shape[1], dtype=wide)  # c [d]
        self.memory["count"] = weight.new_zeros((), dtype=torch.long)  # n
        return []

    @torch.no_grad()
    def step(self, images: Tensor) -> Tensor:
        """Move the centre, and answer the batch."""

        def moved(f: Tensor, z: Tensor) -> Tensor:
            self._move(f)
            lengths = {"centre": self.memory["centre"].norm(), "features": f.norm(dim=1).mean()}
            self.diagnostics = lengths
            return self._centred(f)

        return self._last.through(self.model, images, moved)[1]

    @torch.no_grad()
    def predict(self, images: Tensor) -> Tensor:
        """Return the logits with the centre as it is."""
        images = self._received(images)
        return self._last.through(self.model, images, lambda f, z: self._centred(f))[1]

    def _move(self, f: Tensor) -> None:
        """Move the centre by features [B,d]."""
        memory, rate = self.memory, self.config.rate
        f = f.to(memory["centre"])
        finite = f.isfinite().all(1, keepdim=True)  # [B,1]
        count = finite.sum().to(f.dtype)
        mean = torch.where(finite, f, 0.0).sum(0) / count.clamp(min=1)  # [d]
        memory["count"] = memory["count"] + finite.sum()
        share = count / memory["count"].clamp(min=1) if rate is None else rate * (count > 0)
        memory["centre"] = torch.lerp(memory["centre"], mean, share.to(mean))

    def _centred(self, f: Tensor) -> Tensor:
        """Return W (f - c) + b."""
        layer = self._last.of(self.model)
        bias = None if layer.bias is None else layer.bias.to(f)
        return F.linear(f - self.memory["centre"].to(f), layer.weight.to(f), bias)
