"""LAME: answers of a batch are made to agree between images with similar features; no training.

Paper: Boudiaf et al., Parameter-free Online Test-time Adaptation, CVPR 2022, arXiv 2201.05718. The
source model answers, with its running statistics. For each batch by itself, with features f, p =
softmax(z), u = -log(p + 1e-10) and phi_b = f_b/|f_b|:
    D_ij = |phi_i - phi_j|,   affinity K [B,B]:
        "rbf"     K = exp(-D^2 / 2 s^2), s the mean over i of the k-th smallest D_i., D_ii = 0 too
        "knn"     K_ij = 1 for the k smallest D_i. after the very smallest, else 0
        "linear"  K = phi phi^T
    Y = softmax(-u), then at most 100 times:   A = K Y,   Y <- softmax(A - u),
        E = sum u Y - A Y + Y log Y;   stop when E changes by at most 1e-8 |E|, from the third on
The answer is Y; what is returned is log max(Y, 1e-20), of which softmax makes Y again.

Constants are those of both released codes: rbf, k = 5, not symmetric. Known deviations: K = 0, so
that the source's answer stays, for a batch of one image (0/0 in the code with "rbf", a sharpened
answer with "linear"), where s = 0, and for a batch with a value that is not finite.
Made for streams whose neighbours in time are of one class; it ruins answers to shuffled ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from tttlib.adapt.common.adapter import Adapter, Config, everywhere
from tttlib.adapt.common.config import Count
from tttlib.adapt.common.last_layer import LastLayer

ITERATIONS, CHANGE = 100, 1e-8


@dataclass(frozen=True, kw_only=True)
class LameConfig(Config):
    """Constants.

    Attributes
    ----------
    affinity
        Kind of K.
    neighbours
        k; "linear" has none.
    symmetric
        Whether K is replaced by (K + K^T)/2.
    """

    affinity: Literal["rbf", "knn", "linear"] = "rbf"
    neighbours: Count = 5
    symmetric: bool = False


class Lame(Adapter, name="lame"):
    """Diagnostics: iterations, and changed, the share of images whose class is not the source's."""

    answer: ClassVar = "of the source network, made to agree between similar images of the batch"
    needs = ("several images", "last linear layer")
    presets: ClassVar = everywhere(LameConfig())

    def configure(self) -> list[str]:
        """Find the last linear layer; nothing is trained."""
        self._last = LastLayer(self.model, self.name)
        return []

    def step(self, images: Tensor) -> Tensor:
        """Answer a batch."""
        return self.predict(images)

    @torch.no_grad()
    def predict(self, images: Tensor) -> Tensor:
        """Answer a batch, which is all that the answer depends on."""
        features, logits = self._last.through(self.model, self._received(images))
        u = -(logits.softmax(1) + 1e-10).log()  # [B,C]
        y, iterations = agreement(u, self._affinity(features, u))
        changed = (y.argmax(1) != logits.argmax(1)).to(y.dtype).mean()
        self.diagnostics = {"iterations": iterations, "changed": changed}
        return y.clamp(min=1e-20).log()

    def _affinity(self, features: Tensor, u: Tensor) -> Tensor:
        """Return K [B,B] of features [B,d]; 0 where similarity has no meaning."""
        config, b = self.config, len(features)
        phi = F.normalize(features, dim=1, eps=1e-12)
        if config.affinity == "linear":
            k = phi @ phi.T
            far = k.new_ones(())
        else:
            d = torch.cdist(phi, phi, compute_mode="donot_use_mm_for_euclid_dist")  # [B,B]
            if config.affinity == "rbf":
                near = d.topk(min(config.neighbours, b), largest=False).values  # [B,k]
                far = near[:, -1].mean()  # s
                k = (-(d**2) / (2 * far**2)).exp()
            else:
                near = d.topk(min(config.neighbours + 1, b), largest=False).indices[:, 1:]
                k = torch.zeros_like(d).scatter(1, near, 1.0)
                far = k.new_ones(())
        if config.symmetric:
            k = (k + k.T) / 2
        usable = (far > 0) & features.isfinite().all() & u.isfinite().all() & (b > 1)
        return torch.where(usable, k, 0.0)


def agreement(u: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """Return Y [B,C] for unary costs u [B,C] and affinities k [B,B], and the iterations made.

    On a GPU all of them are computed, and those after the stop change nothing: the device is not
    waited for.
    """
    y, energy = (-u).softmax(1), u.new_tensor(torch.inf)
    done = torch.zeros((), dtype=torch.bool, device=u.device)
    made = torch.zeros((), dtype=torch.long, device=u.device)
    for i in range(ITERATIONS):
        a = k @ y.nan_to_num()  # [B,C]; an image with NaN has no neighbours
        new = (a - u).softmax(1)
        new_energy = (u * new - a * new + new * new.clamp(min=1e-20).log()).sum()
        made += ~done
        y = torch.where(done, y, new)
        if i >= 2:
            done = done | ((new_energy - energy).abs() <= CHANGE * energy.abs())
        energy = new_energy
        if done.device.type == "cpu" and done:
            break
    return y, made
