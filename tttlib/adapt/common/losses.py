"""Losses on logits [B,C]; natural logarithms, in nats."""

from __future__ import annotations

import math

from torch import Tensor


def entropy(logits: Tensor) -> Tensor:
    """Return the entropy H(softmax(z)) of each image, [B]."""
    return -(logits.softmax(1) * logits.log_softmax(1)).sum(1)


def cross_entropy(target: Tensor, logits: Tensor) -> Tensor:
    """Return CE(a||b) = -mean_b sum_c softmax(a) log softmax(b); gradients reach both."""
    return cross_entropies(target, logits).mean()


def cross_entropies(target: Tensor, logits: Tensor) -> Tensor:
    """Return -sum_c softmax(a) log softmax(b) of each image, [B]; gradients reach both."""
    return -(target.softmax(1) * logits.log_softmax(1)).sum(1)


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
    if margin is None:
        margin = 0.4 * math.log(logits.shape[1])
    h = entropy(logits)
    reliable = h <= margin if inclusive else h < margin
    total = (h * reliable).sum()
    return total / (reliable.sum().clamp(min=1) if over == "selected" else len(h)), reliable


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
