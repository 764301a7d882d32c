"""What ROID and CMF share: certain and diverse images teach, and the source's weights stay near.

Marsden, Doebler and Yang, Universal Test-time Adaptation through Weight Ensembling, Diversity
Weighting, and Prior Correction, WACV 2024, arXiv 2306.00650. For each batch, with logits z,
p = softmax(z), m [C] the running mean prediction (1/C at the start), N the configured batch size:
    d_b = 1 - cos(m, p_b), c_b = -H(p_b), both scaled to [0,1] over the batch;  D = {d_b < mean d}
    w_b = exp(d_b c_b / T), and 0 in D;    m <- mu m + (1-mu) mean_b p_b
    L_1 = (1/N) sum_b w_b slr_b,  slr_b = -sum_c q_bc ln(q_bc / (1 - q_bc) + 1e-5),  q = min(p, .99)
    L_2 = (1/N) sum_{b not in D} w_b (CE(z_b||a_b) + CE(a_b||z_b)) / 2,  a of a view of these images
    one step on L_1 + L_2, then the weights are ensembled (each method in its way)
    answer z pi~,  pi = mean_b p_b,  s = max(1/B, 1/C) / max_c pi_c,  pi~ = (pi + s) / (1 + s C)
This is no method by itself: the ensembling is missing.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from tttlib.adapt.common import parameters
from tttlib.adapt.common.adapter import Adapter, TrainingConfig, ViewConfig
from tttlib.adapt.common.augmentation import cotta_view
from tttlib.adapt.common.batch_norm import use_batch_statistics
from tttlib.adapt.common.config import Count, Fraction, Positive
from tttlib.adapt.common.losses import cross_entropies, entropy
from tttlib.adapt.common.optimizers import finite

MOST, EPS = 0.99, 1e-5  # of the soft likelihood ratio


@dataclass(frozen=True, kw_only=True)
class WeightEnsemblingConfig(TrainingConfig, ViewConfig):
    """Constants; `augment` None is CoTTA's view without blur and noise, padded by reflection.

    Attributes
    ----------
    probs_momentum
        mu of the mean prediction.
    temperature
        T of the weights.
    batch_size
        N, by which the losses are divided; None is the size of the batch at hand. With the
        released N a last, smaller batch counts less.
    weighting, consistency, prior_correction
        Whether there are w and D (else all images count 1), L_2, and the factor pi~.
    """

    probs_momentum: Fraction = 0.9
    temperature: Positive = 1 / 3
    batch_size: Count | None = None
    weighting: bool = True
    consistency: bool = True
    prior_correction: bool = True


class WeightEnsembling(Adapter):
    """Diagnostics.

    loss, loss_likelihood, loss_consistency
        L_1 + L_2, L_1 and L_2.
    kept
        Number of images outside D.
    moved
        1 if there was an update, or 0.
    logits
        [B,C], the answer without the factor pi~.
    """

    trains: ClassVar = "scale and shift of normalisation layers"
    needs: ClassVar = ("several images",)

    def configure(self) -> list[str]:
        """Train scale and shift of the normalisation layers, with batch statistics."""
        use_batch_statistics(self.model)
        self.memory["mean"] = None  # m [C]; the first batch tells C
        return parameters.norm_affine(self.model)

    @abstractmethod
    def ensemble(self, moved: Tensor) -> None:
        """Bring the source's weights in; with `moved` 0, not 1, nothing may happen."""

    def augment(self, images: Tensor) -> Tensor:
        """Return a view of the images."""
        if self.config.augment is not None:
            return self.config.augment(images)
        return cotta_view(images, self.generator, blur_and_noise=False, outside="reflect")

    def predict(self, images: Tensor) -> Tensor:
        """Return the corrected logits [B,C] of the network as it is."""
        return self._corrected(super().predict(images))

    def step(self, images: Tensor) -> Tensor:
        """Answer a batch and learn from those images that are certain and diverse."""
        config = self.config
        logits = self.model(images)
        number = config.batch_size or len(images)  # N
        weights, kept, usable = self._weights(logits.detach())
        likelihood = (weights * likelihood_ratio(logits)).sum() / number
        loss = likelihood
        if config.consistency:
            # How many images are kept decides a shape, for which the device is waited for
            rows = kept.nonzero()[:, 0]  # [K]
            z, a = logits[rows], self.model(self.augment(images[rows]))  # [K,C]
            both = (cross_entropies(z, a) + cross_entropies(a, z)) / 2  # [K], gradients in z and a
            loss = loss + (weights[rows] * both).sum() / number
        g = self.gradients(loss)
        assert self.optimizer is not None
        self.optimizer.step(g, usable)
        moved = (finite(g) & usable).to(g[0].dtype)
        self.ensemble(moved)
        self.diagnostics = {
            "loss": loss.detach(),
            "loss_likelihood": likelihood.detach(),
            "loss_consistency": (loss - likelihood).detach(),
            "kept": kept.sum(),
            "moved": moved,
            "logits": logits.detach(),
        }
        return self._corrected(logits.detach())

    @torch.no_grad()
    def _weights(self, logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return w [B], who is not in D [B], and whether d and c differ between images; moves m."""
        p = logits.softmax(1)
        old = self.memory["mean"]
        if old is None:
            old = torch.full_like(p[0], 1 / p.shape[1])
        mu = self.config.probs_momentum
        new = mu * old + (1 - mu) * p.mean(0)  # [C]
        self.memory["mean"] = torch.where(new.isfinite().all(), new, old)
        ones = torch.ones_like(p[:, 0])
        if not self.config.weighting:
            return ones, ones > 0, ones[0] > 0
        d, d_spread = scaled(1 - F.cosine_similarity(old[None], p))  # [B]
        c, c_spread = scaled(-entropy(logits))
        kept = ~(d < d.mean())
        w = torch.exp(d * c / self.config.temperature) * kept
        return w, kept, (d_spread > 0) & (c_spread > 0)

    def _corrected(self, logits: Tensor) -> Tensor:
        """Return z pi~: logits times the smoothed share of each class in the batch."""
        if not self.config.prior_correction:
            return logits
        share = logits.softmax(1).mean(0)  # pi [C]
        b, c = logits.shape
        s = max(1 / b, 1 / c) / share.max()
        return logits * ((share + s) / (1 + s * c))


def scaled(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return (x - min x) / (max x - min x), 0 where all are equal, and the divisor."""
    low, high = x.aminmax()
    spread = high - low
    return (x - low) / torch.where(spread > 0, spread, 1), spread


def likelihood_ratio(logits: Tensor) -> Tensor:
    """Return slr of each image, [B]; a probability above .99 gets no gradient."""
    q = logits.softmax(1).clamp(0, MOST)
    return -(q * torch.log(q / (1 - q) + EPS)).sum(1)


@torch.no_grad()
def pull(tensors: Sequence[Tensor], toward: Sequence[Tensor], share: Any) -> None:
    """Move x <- (1 - share) x + share y in place; bit by bit nothing where x = y."""
    way = torch._foreach_sub(list(toward), list(tensors))
    torch._foreach_mul_(way, share)
    torch._foreach_add_(list(tensors), way)
