"""Online streams that advance together, arrival by arrival, whatever network learns from them.

Streams are independent: a stack has one replica of the weights for each. What they share is the
passes through the network, which work on all of them at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor
from tqdm.auto import tqdm

from tttlib.ttt.result import HeldOut, TTTResult, join

_STACK = 16  # streams; more at once were no faster on a CPU


@dataclass(frozen=True)
class OnlineStream:
    """What arrives, and how to adapt to it.

    Attributes
    ----------
    images
        Images [N,3,H,W] in the order of their arrival.
    draw
        Gives the random numbers of an arrival: patch orders, or views.
    settings
        How to adapt.
    kind
        Equal for streams that may share a stack.
    heldout
        Images [M,3,H,W] to evaluate every `settings.evaluate_every` arrivals and at the end.
    """

    images: Tensor
    draw: Callable[[int], Any]
    settings: Any
    kind: object
    heldout: Tensor | None = None


class Learner(Protocol):
    """Weights that learn from S streams, the longest first; replica s has those of stream s."""

    streams: list[OnlineStream]

    def narrow(self, replicas: int) -> None:
        """Go on with the first `replicas` streams alone."""

    def learn(self, number: int) -> tuple[Tensor, ...]:
        """Adapt to arrival `number` of every stream; return losses, logits and failed, [S,…]."""

    def classify(self, images: Tensor, replica: int) -> Tensor:
        """Return logits [M,C] of images [M,3,H,W] by one replica as it is."""


def stacks_of(streams: Sequence[OnlineStream], most: int = _STACK) -> list[list[int]]:
    """Return the numbers of streams of one kind together, the longest first, at most `most` each.

    Streams with equal learning rates are neighbours where their lengths allow.
    """
    kinds: list[object] = []
    groups: list[list[int]] = []
    for number, stream in enumerate(streams):
        if stream.kind not in kinds:
            kinds.append(stream.kind)
            groups.append([])
        groups[kinds.index(stream.kind)].append(number)
    for group in groups:
        group.sort(key=lambda s: (-len(streams[s].images), streams[s].settings.lr))
    most = max(1, min(most, _STACK))
    return [group[i : i + most] for group in groups for i in range(0, len(group), most)]


def advance(learner: Learner, progress: bool) -> Iterator[tuple[int, TTTResult]]:
    """Let the learner meet all arrivals; yield the number and the result of a stream as it ends."""
    streams = list(learner.streams)
    times = streams[0].settings.times
    parts: list[list[tuple[Tensor, ...]]] = [[] for _ in streams]
    evaluations = [HeldOut() for _ in streams]

    def evaluate(s: int, seen: int) -> None:
        heldout = streams[s].heldout
        if heldout is not None:
            evaluations[s].add(seen, learner.classify(heldout, s))

    replicas = len(streams)
    numbers = range(len(streams[0].images))
    for number in tqdm(numbers, "online TTT", unit="arrival", disable=not progress):
        for s in range(replicas):
            if number % streams[s].settings.evaluate_every == 0:
                evaluate(s, number)
        part = learner.learn(number)
        for s in range(replicas):
            parts[s].append(tuple(value[s : s + 1] for value in part))
        going_on = sum(len(stream.images) > number + 1 for stream in streams)
        for s in range(going_on, replicas):
            evaluate(s, number + 1)
            yield s, join(parts[s], times, evaluations[s])
        if 0 < going_on < replicas:
            learner.narrow(going_on)
        replicas = going_on
