"""What test-time training gives back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class TTTResult:
    """Losses and predictions of test-time training on N images, on the CPU.

    Attributes
    ----------
    losses
        Losses [N,steps], each before its update; NaN after a failure.
    logits
        Logits [N,K,C] after the updates `evaluated_at`. By default K = steps + 1, and index 0 is
        before any update of that image.
    failed
        Which images failed, bool [N]: their loss or logits became non-finite, see `run`.
    latents
        CLS latents [N,K,D], or None.
    evaluated_at
        The K numbers of updates after which predictions were made.
    heldout_at
        Numbers of stream images after which the held-out set was evaluated (online).
    heldout_logits
        Logits [len(heldout_at),M,C] of the held-out set, or None.
    """

    losses: Tensor
    logits: Tensor
    failed: Tensor
    latents: Tensor | None = None
    evaluated_at: tuple[int, ...] = ()
    heldout_at: list[int] = field(default_factory=list)
    heldout_logits: Tensor | None = None

    def accuracy(self, labels: Tensor) -> Tensor:
        """Return the share of right answers after each number of updates in `evaluated_at`, [K].

        Raises
        ------
        ValueError
            For labels that are no outputs of the network.
        """
        labels, outputs = torch.as_tensor(labels).cpu(), self.logits.shape[-1]
        if len(labels) and not 0 <= labels.min() <= labels.max() < outputs:
            raise ValueError(
                f"labels must be 0 … {outputs - 1}, the outputs of the network, not "
                f"{int(labels.min())} … {int(labels.max())}"
            )
        return (self.logits.argmax(-1) == labels[:, None]).double().mean(0)


class HeldOut:
    """The evaluations of a held-out set along an online stream."""

    def __init__(self) -> None:
        self.at: list[int] = []
        self.logits: list[Tensor] = []

    def add(self, images_seen: int, logits: Tensor) -> None:
        """Keep the `logits` [M,C] of the held-out set after `images_seen` images of the stream."""
        self.at.append(images_seen)
        self.logits.append(logits)


def join(
    parts: Sequence[tuple[Tensor, ...]], evaluated_at: tuple[int, ...], heldout: HeldOut
) -> TTTResult:
    """Return the result of all images from the losses, logits, failures (and latents) of parts."""
    losses, logits, failed, *latents = (torch.cat(part) for part in zip(*parts, strict=True))
    return TTTResult(
        losses,
        logits,
        failed,
        latents[0] if latents else None,
        evaluated_at,
        heldout.at,
        torch.stack(heldout.logits) if heldout.logits else None,
    )
