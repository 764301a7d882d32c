"""Orders on which methods fail: domains that come back, and classes whose shares change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from tttlib import corruptions
from tttlib.data import ImageSet
from tttlib.streams.continual_orders import check_cells, continual
from tttlib.streams.stream import Stream


def recurring(
    dataset: ImageSet,
    domains: Sequence[str] = corruptions.NAMES,
    *,
    rounds: int,
    images: int | None = None,
    severity: float = 5,
    batch_size: int,
    seed: int = 0,
) -> Stream:
    """Let the sequence of domains come back, one round after the other.

    Rows have a column `round`, counted from 0. In a method that forgets or collapses, the error
    rises over the rounds, although every round asks the same.

    Parameters
    ----------
    rounds
        How often the sequence arrives.
    images
        How many images a block shows. They are dealt out from one shuffled pass over the dataset
        after the other, so a block holds no image twice and later rounds show others. None: all
        images in every block, as in `continual`.
    dataset, domains, severity, batch_size, seed
        As in `continual`.

    Raises
    ------
    ValueError
        If `rounds` is below 1, or `images` not between 1 and the images of the dataset.

    References
    ----------
    Hoang et al., "Persistent Test-time Adaptation in Recurring Testing Scenarios", NeurIPS 2024,
    arXiv 2311.18193 (20 rounds).
    """
    if rounds < 1:
        raise ValueError(f"rounds must be 1 or more, not {rounds}")
    check_cells(dataset, domains)
    sequence, name = [*domains] * rounds, f"recurring, {rounds} rounds"
    how: dict[str, Any] = {"batch_size": batch_size, "seed": seed}
    if images is None:
        stream = continual(dataset, sequence, severity=severity, **how)
        plan, order = stream.plan, stream.order
    else:
        plan = pd.DataFrame({"index": _dealt(len(dataset), images, len(sequence), seed)})
        blocks = np.repeat(np.arange(len(sequence)), images)
        plan = plan.assign(domain=np.array(sequence)[blocks], severity=severity, block=blocks)
        order = "shuffled by the seed"
    plan = plan.assign(round=plan["block"] // len(domains))
    return Stream(dataset, plan, name=name, order=order, **how)


def label_shift(
    dataset: ImageSet,
    domains: Sequence[str] = corruptions.NAMES,
    *,
    imbalance: float = 10,
    moving: bool = True,
    severity: float = 5,
    batch_size: int,
    seed: int = 0,
) -> Stream:
    """Show one domain after the other, each with classes of other shares.

    The classes are put in a random order; of the n images of the class at place r of C, counted
    from 0, round(n / imbalance^(r / (C - 1))) arrive, drawn at random, in random order. Inside a
    block labels are independent: what changes is how often each class comes, not what comes next.

    Parameters
    ----------
    imbalance
        How often the most frequent class arrives for one arrival of the rarest, 1 or more.
    moving
        Whether the order of the classes is drawn anew for every block; otherwise all blocks have
        one distribution and the same images.
    dataset, domains, severity, batch_size, seed
        As in `continual`.

    Raises
    ------
    ValueError
        If the imbalance is below 1.

    References
    ----------
    The profile is that of Cui et al., "Class-Balanced Loss Based on Effective Number of Samples",
    CVPR 2019, section 5.1.
    """
    if not 1 <= imbalance < float("inf"):
        raise ValueError(f"imbalance must be 1 or more, not {imbalance}")
    check_cells(dataset, domains)
    random, labels = np.random.default_rng([seed, len(dataset), 10]), dataset.labels.numpy()
    parts: list[pd.DataFrame] = []
    for block, domain in enumerate(domains):
        if moving or not parts:
            index = _with_shares(labels, imbalance, random)
        place: dict[str, Any] = {"domain": domain, "severity": severity, "block": block}
        parts.append(pd.DataFrame({"index": index}).assign(**place))
    name = f"label shift, {imbalance:g}{'' if moving else ', one distribution'}"
    order = "shuffled by the seed"
    plan = pd.concat(parts, ignore_index=True)
    return Stream(dataset, plan, batch_size=batch_size, seed=seed, name=name, order=order)


def _dealt(n: int, of_block: int, blocks: int, seed: int) -> np.ndarray:
    """Return `of_block` of n positions for each block, from shuffled passes over all of them.

    What is left of a pass that is shorter than a block begins the next block, and the following
    pass puts these positions at its end, so that the block does not show them twice.
    """
    if not 1 <= of_block <= n:
        raise ValueError(f"images of a block must be from 1 to {n}, not {of_block}")
    random = np.random.default_rng([seed, n, 8])
    left, dealt = np.empty(0, dtype=np.int64), []
    for _ in range(blocks):
        if len(left) < of_block:
            fresh = random.permutation(n)
            fresh = np.concatenate([fresh[~np.isin(fresh, left)], fresh[np.isin(fresh, left)]])
            left = np.concatenate([left, fresh])
        dealt.append(left[:of_block])
        left = left[of_block:]
    return np.concatenate(dealt)


def _with_shares(labels: np.ndarray, imbalance: float, random: np.random.Generator) -> np.ndarray:
    """Return shuffled positions whose classes have the shares of `label_shift`."""
    classes = random.permutation(np.unique(labels))
    kept = []
    for place, label in enumerate(classes):
        members = random.permutation(np.flatnonzero(labels == label))
        share = imbalance ** (-place / max(1, len(classes) - 1))
        kept.append(members[: max(1, round(len(members) * share))])
    return random.permutation(np.concatenate(kept))
