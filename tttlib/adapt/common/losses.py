"""Losses on logits [B,C]; natural logarithms, in nats."""

from __future__ import annotations

import math

from torch import Tensor


def entropy(logits: Tensor) -> Tensor:
    """H(softmax(z)) of each image: [B,C] -> [B]."""
    return -(logits.softmax(1) * logits.log_softmax(1)).sum(1)


def cross_entropy(target: Tensor, logits: Tensor) -> Tensor:
    """CE(a||b) = -mean_b sum_c softmax(a) log softmax(b); gradients reach both."""
    return -(target.softmax(1) * logits.log_softmax(1)).sum(1).mean()


def reliable_entropy(
    logits: Tensor, margin: float | None, *, inclusive: bool = False, over: str = "selected"
) -> tuple[Tensor, Tensor]:
    """Mean entropy of the images whose entropy is below `margin`, and which these are: bool [B].

    margin     in nats; None is 0.4 ln C
    inclusive  an entropy equal to the margin is reliable, too
    over       "selected": the mean over the reliable images; "batch": their sum over B
    No reliable image: 0, without gradient.
    """
    if margin is None:
        margin = 0.4 * math.log(logits.shape[1])
    h = entropy(logits)
    reliable = h <= margin if inclusive else h < margin
    total = (h * reliable).sum()
    return total / (reliable.sum().clamp(min=1) if over == "selected" else len(h)), reliable


def from_uniform(logits: Tensor, direction: str = "u||p") -> Tensor:
    """How far predictions are from u = 1/C, mean over the batch.

    direction  "u||p": cross-entropy of p against the target u, KL(u||p) but for a constant;
               "p||u": KL(p||u)
    """
    if direction == "u||p":
        return -logits.log_softmax(1).mean()
    return math.log(logits.shape[1]) - entropy(logits).mean()
