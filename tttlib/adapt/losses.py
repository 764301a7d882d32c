"""Losses on logits; natural logarithms, in nats."""

from __future__ import annotations

from torch import Tensor


def entropy(logits: Tensor) -> Tensor:
    """H(softmax(z)) of each image: [B,C] -> [B]."""
    return -(logits.softmax(1) * logits.log_softmax(1)).sum(1)
