"""Losses on logits [B,C]; natural logarithms, in nats."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tttlib.adapt.common.config import EntropyConfig

MARGIN = 0.4  # the share of ln C below which an entropy is reliable


def entropy(logits: Tensor) -> Tensor:
    """Return the entropy H(softmax(z)) of each image, [B]."""
    return -(logits.softmax(1) * logits.log_softmax(1)).sum(1)


def come(logits: Tensor, mass: float | None = None) -> Tensor:
    """Return the entropy of beliefs and uncertainty of each image, [B].

    Zhang et al., COME: Test-time Adaption by Conservatively Minimizing Entropy, ICLR 2025, arXiv
    2410.10894. Evidence exp(z_c) for each class and K for not knowing are one distribution q over
    C+1 outcomes, and the length of z has no gradient: sure of nothing is a way of being certain.
        z^ = z/|z| sg(|z|),   q = softmax(z^_1, ..., z^_C, ln K),   -sum_c (q_c+1e-7) ln(q_c+1e-7)

    Parameters
    ----------
    logits
        [B,C].
    mass
        K; None is C.
    """
    size = logits.norm(dim=1, keepdim=True).clamp(min=1e-12)  # [B,1]
    evidence = logits / size * size.detach()
    unknown = torch.full_like(size, math.log(logits.shape[1] if mass is None else mass))
    q = torch.cat([evidence, unknown], 1).softmax(1) + 1e-7  # [B,C+1]
    return -(q * q.log()).sum(1)


def uncertainty(logits: Tensor, config: EntropyConfig) -> Tensor:
    """Return what a method follows, its entropy or `come`, of each image: [B]."""
    return come(logits, config.mass) if config.loss == "come" else entropy(logits)


def margin_of(logits: Tensor, margin: float | None, share: float = MARGIN) -> float:
    """Return a margin in nats; None is a share of ln C."""
    return share * math.log(logits.shape[1]) if margin is None else margin


def mean_over(values: Tensor, chosen: Tensor) -> Tensor:
    """Return the mean of `values` [...,B] over the chosen images, bool [B]; 0 if there are none."""
    return (values * chosen).sum(-1) / chosen.sum().clamp(min=1)


def cross_entropies(target: Tensor, logits: Tensor) -> Tensor:
    """Return -sum_c softmax(a) log softmax(b) of each image, [B]; gradients reach both."""
    return -(target.softmax(1) * logits.log_softmax(1)).sum(1)


def cross_entropy(target: Tensor, logits: Tensor) -> Tensor:
    """Return CE(a||b) = -mean_b sum_c softmax(a) log softmax(b); gradients reach both."""
    return cross_entropies(target, logits).mean()


def reliable_entropy(
    logits: Tensor, margin: float | None, *, inclusive: bool = False, over: str = "selected"
) -> tuple[Tensor, Tensor]:
    """Return the mean entropy of the images whose entropy is below a margin, and which these are.

    Parameters
    ----------
    logits
        [B,C].
    margin
        In nats; None is 0.4 ln C.
    inclusive
        Whether an entropy equal to the margin is reliable, too.
    over
        "selected" for the mean over the reliable images, "batch" for their sum over B.

    Returns
    -------
    loss
        Scalar; 0, without gradient, if no image is reliable.
    reliable
        bool [B].
    """
    h, margin = entropy(logits), margin_of(logits, margin)
    reliable = h <= margin if inclusive else h < margin
    return mean_over(h, reliable) if over == "selected" else (h * reliable).sum() / len(h), reliable


def from_uniform(logits: Tensor, direction: str = "u||p") -> Tensor:
    """Return how far predictions p are from u = 1/C, the mean over the batch.

    Parameters
    ----------
    logits
        [B,C].
    direction
        "u||p" for the cross-entropy of p with target u, which is KL(u||p) but for a constant;
        "p||u" for KL(p||u).
    """
    if direction == "u||p":
        return -logits.log_softmax(1).mean()
    return math.log(logits.shape[1]) - entropy(logits).mean()
