"""Which arrivals a method learns from: all, every k-th batch, or windows of single images."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from tttlib import adapt, streams

EVERY = "by the last state where the method does not adapt to the batch"
WINDOW = "for the newest of the last images, all of which are seen"


@dataclass(frozen=True)
class Pace:
    """How often a method learns along a stream.

    With `adapt_every` = k it adapts to the first of every k batches, and answers the others with
    `Adapter.predict`, from its last state without learning. This is the evaluation at constant
    speed: a method that takes as long as k forward passes has missed k - 1 batches when it is done.

    With `window` = W > 1 images arrive one at a time. Each is answered together with the up to
    W - 1 images before it, as one batch of which the newest row counts, and the method learns from
    the batch when W new images have come.

    Both count from the beginning of the stream, or from the last reset.

    Attributes
    ----------
    adapt_every, window
        1 or more; one of them is 1.

    Raises
    ------
    ValueError
        For other numbers, or both at once.

    References
    ----------
    Alfarra et al., "Evaluation of Test-Time Adaptation Under Computational Time Constraints", ICML
    2024, arXiv 2304.04795, section 3. The window is that of the released code of ROID (Marsden et
    al., WACV 2024, arXiv 2306.00650).
    """

    adapt_every: int = 1
    window: int = 1

    def __post_init__(self) -> None:
        for name, value in self._named().items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a whole number of 1 or more, not {value!r}")
        if self.adapt_every > 1 and self.window > 1:
            raise ValueError("a window says already when a method learns: adapt_every must be 1")

    def _named(self) -> dict[str, Any]:
        return {"adapt_every": self.adapt_every, "window": self.window}

    def identity(self) -> dict[str, int]:
        """Return what a unit of work says of it: nothing of what is 1, as in older units."""
        return {name: value for name, value in self._named().items() if value != 1}

    def protocol(self, usual: Mapping[str, str]) -> dict[str, str]:
        """Return the protocol of `usual` answers with what is different here."""
        said = [text for n, text in ((self.adapt_every, EVERY), (self.window, WINDOW)) if n > 1]
        return {**usual, "prediction": "; ".join([usual["prediction"], *said])}

    def check(self, stream: streams.Stream) -> None:
        """Refuse a window on a stream of larger batches.

        Raises
        ------
        ValueError
            For such a stream.
        """
        if self.window > 1 and stream.batch_size != 1:
            raise ValueError(
                f"a window of {self.window} takes single images: the stream's batch_size must be 1,"
                f" not {stream.batch_size}"
            )


@dataclass
class Learner:
    """A method that answers the batches of a stream at a pace.

    Attributes
    ----------
    adapter
        The method.
    stream
        Where the images are from.
    pace
        When it learns.
    since
        The number of the first batch since the last reset.
    """

    adapter: adapt.Adapter
    stream: streams.Stream
    pace: Pace
    since: int = 0
    _seen: dict[int, Tensor] = field(default_factory=dict, repr=False)  # the window's images

    def reset(self, number: int) -> None:
        """Go back to the source before batch `number`, and begin to count there."""
        self.adapter.reset()
        self.since, self._seen = number, {}

    def answer(self, number: int) -> tuple[Tensor, bool]:
        """Return the logits [B,C] of batch `number`, and whether the method learned from it."""
        images, window = self.stream.batch(number).images, self.pace.window
        arrived, of_batch = number - self.since + 1, len(images)
        learns = (arrived - 1) % self.pace.adapt_every == 0
        if window > 1:
            learns = arrived % window == 0
            first = max(self.since, number - window + 1)
            kept = {k: self._seen[k] for k in range(first, number) if k in self._seen}
            self._seen = {**kept, number: images}
            numbers = range(first, number + 1)  # after a restart the images before come anew
            images = torch.cat([self._of(k) for k in numbers])
        logits = self.adapter(images) if learns else self.adapter.predict(images)
        return logits[-of_batch:].detach(), learns

    def _of(self, number: int) -> Tensor:
        if number not in self._seen:
            self._seen[number] = self.stream.batch(number).images
        return self._seen[number]


def constant_speed(forwards: float, *, tolerance: float = 0.1) -> int:
    """Return the `adapt_every` of a method that takes as long as so many forward passes.

    That is `forwards` rounded up to a whole number, at least 1.

    Parameters
    ----------
    forwards
        Time of a batch over that of a plain forward pass of the source network, as measured by
        `tttlib bench palm`.
    tolerance
        How far above a whole number still counts as that number, since times are measured: 1.04
        forward passes are one.

    Raises
    ------
    ValueError
        For a cost that is no positive number, or a tolerance outside [0,1).
    """
    if not 0 < forwards < float("inf") or not 0 <= tolerance < 1:
        raise ValueError(f"no cost and tolerance: {forwards} forward passes, {tolerance}")
    return max(1, math.ceil(forwards - tolerance))
