"""The orders of continual test-time adaptation: every image under every domain."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from tttlib import corruptions
from tttlib.data import ImageSet
from tttlib.streams.stream import Stream

SCHEDULES = {
    "released": ((1, 2, 3, 4, 5, 4, 3, 2, 1),) * 2,
    "cotta": ((5, 4, 3, 2, 1), (1, 2, 3, 4, 5, 4, 3, 2, 1)),
}
"""Severities of the first corruption and of the later ones in the gradual setting."""

ORDERS = ("as stored", "shuffled")
"""The orders of the images inside a block."""


def continual(
    dataset: ImageSet,
    domains: Sequence[str] = corruptions.NAMES,
    *,
    severity: float = 5,
    batch_size: int,
    seed: int = 0,
    order: str | None = None,
    distinct: bool = False,
) -> Stream:
    """Show all images under one domain after the other.

    With 15 corruptions at severity 5 this is the continual setting (CTTA) of CoTTA and PALM.

    Parameters
    ----------
    dataset
        The clean images.
    domains
        Corruptions or "clean", in the order in which they arrive; one block each. One that is named
        twice comes back.
    severity
        A number from 1 to 5.
    batch_size
        The number of images in a batch.
    seed
        The seed of the corruptions and of the shuffling.
    order
        The order of the images in every block: "as stored" or "shuffled" by the seed. By default
        they are shuffled if the dataset is stored class after class, as image folders are: batches
        of a few classes would spoil the statistics of every method.
    distinct
        Whether every block shows other images: the images are dealt out to the blocks evenly, a
        remainder is left out. The published streams show all images in every block; as many
        arrivals of distinct images tell more, because arrivals of one image depend on each other.

    Raises
    ------
    ValueError
        If the order is unknown, or there are fewer images than blocks of distinct ones.
    """
    check_cells(dataset, domains)
    cells = [(domain, severity) for domain in domains]
    how: dict[str, Any] = {"batch_size": batch_size, "name": "continual"}
    return _every_image(dataset, cells, order, seed, distinct, **how)


def gradual(
    dataset: ImageSet,
    domains: Sequence[str] = corruptions.NAMES,
    *,
    schedule: str = "released",
    batch_size: int,
    seed: int = 0,
    order: str | None = None,
    distinct: bool = False,
) -> Stream:
    """Let every corruption rise and fall in severity (GTTA), with all images at each severity.

    A block is one severity of one corruption. Published tables average over all blocks, over those
    of severity 5 or over the rising half (`rising`): PALM's text and its code differ in this.

    Parameters
    ----------
    schedule
        "released" (the code of PALM and LAW: 1 to 5 to 1, 135 blocks for 15 corruptions) or
        "cotta" (the code of CoTTA: the first corruption starts at 5, 131 blocks).
    dataset, domains, batch_size, seed, order, distinct
        As in `continual`.

    Raises
    ------
    ValueError
        If the schedule or the order is unknown, or there are fewer images than blocks of distinct
        ones.
    """
    if schedule not in SCHEDULES:
        raise ValueError(f"unknown schedule {schedule!r}; known are {', '.join(SCHEDULES)}")
    first, later = SCHEDULES[schedule]
    check_cells(dataset, domains)
    cells = [(d, float(s)) for i, d in enumerate(domains) for s in (later if i else first)]
    how: dict[str, Any] = {"batch_size": batch_size, "name": f"gradual, {schedule}"}
    return _every_image(dataset, cells, order, seed, distinct, **how)


def _every_image(
    dataset: ImageSet, cells: Sequence[tuple[str, float]], order: str | None, seed: int,
    distinct: bool, *, name: str, **how: Any,
) -> Stream:  # fmt: skip
    """Return a stream of all images (or its own) in one cell (domain, severity) after the other."""
    if order not in (None, *ORDERS):
        raise ValueError(f"unknown order {order!r}; known are {', '.join(ORDERS)}")
    n = len(dataset)
    index, shuffled = np.arange(n), order == "shuffled"
    if shuffled or (order is None and _class_after_class(dataset.labels.numpy())):
        index, shuffled = np.random.default_rng([seed, n, 7]).permutation(n), True
    if distinct:
        n //= len(cells)  # images of a block
        if not n:
            raise ValueError(
                f"{len(cells)} blocks of distinct images need at least {len(cells)} images, not "
                f"{len(dataset)}; take more, or let all images appear in every block"
            )
        index, name = index[: n * len(cells)], f"{name}, distinct"
    else:
        index = np.tile(index, len(cells))
    domains, severities = (np.repeat(of_cell, n) for of_cell in zip(*cells, strict=True))
    blocks = np.repeat(np.arange(len(cells)), n)
    plan = pd.DataFrame(
        {"index": index, "domain": domains, "severity": severities, "block": blocks}
    )
    record = "shuffled by the seed" if shuffled else None
    record = f"{record}, alike in every block" if record and not distinct else record
    return Stream(dataset, plan, seed=seed, order=record, name=name, **how)


def _class_after_class(labels: np.ndarray) -> bool:
    """Return whether the labels [N] of a set are sorted, or grouped with some images a class.

    A few images can stand so by chance, so this holds for 8 or more.
    """
    steps, classes = np.diff(labels), len(np.unique(labels))
    if len(labels) < 8 or classes == 1 or np.count_nonzero(steps) != classes - 1:
        return False
    return bool((steps >= 0).all()) or len(labels) >= 2 * classes


def rising(rows: pd.DataFrame) -> pd.Series:
    """Return which rows of a gradual stream belong to the rising half of their corruption.

    A corruption rises up to its peak, the last of its blocks at its highest severity; that block
    counts as rising. One that comes back rises anew. The result is bool [N].
    """
    blocks = rows.drop_duplicates("block").sort_values("block")
    domain, severity = blocks["domain"], blocks["severity"]
    # Between two passes of one corruption the severity stays; at a peak shown twice it does, too,
    # which leaves both blocks rising.
    passes = ((domain != domain.shift()) | (severity == severity.shift())).cumsum()
    peak = blocks["block"].where(severity == severity.groupby(passes).transform("max"))
    last = peak.groupby(passes).transform("max")
    return rows["block"].isin(blocks.loc[blocks["block"] <= last, "block"])


def orders(domains: Sequence[str], n: int, seed: int = 0) -> list[tuple[str, ...]]:
    """Return the given order of the domains and `n` - 1 random ones, all different.

    CoTTA averages over ten random orders, whose seeds its repository fixes.

    Raises
    ------
    ValueError
        If the domains have fewer than `n` orders.
    """
    twice = Counter(domains).values()  # orders that differ in equal domains alone are one
    if not 1 <= n <= math.factorial(len(domains)) // math.prod(map(math.factorial, twice)):
        raise ValueError(f"{len(domains)} domains do not have {n} different orders")
    random, chosen = np.random.default_rng([seed, len(domains), 6]), [tuple(domains)]
    while len(chosen) < n:
        order = tuple(domains[i] for i in random.permutation(len(domains)))
        if order not in chosen:
            chosen.append(order)
    return chosen


def correlated(
    dataset: ImageSet,
    domains: Sequence[str] = corruptions.NAMES,
    *,
    severity: float = 5,
    concentration: float = 0,
    mixed: bool = False,
    batch_size: int,
    seed: int = 0,
) -> Stream:
    """Show all images under one domain after the other, with dependent labels in each domain.

    Parameters
    ----------
    concentration
        0 sorts the images by class. Above 0 every class is cut into as many chunks as there are
        classes, of Dirichlet(concentration) sizes, and the chunks k of all classes, shuffled,
        arrive before their chunks k + 1. Large values approach a shuffled order.
    mixed
        Whether the domains are shuffled into one block before its images are put in this order, so
        that labels depend on each other and domains do not (the mixed-domains correlated setting).
    dataset, domains, severity, batch_size, seed
        As in `continual`.

    Raises
    ------
    ValueError
        If the concentration is below 0.

    References
    ----------
    The correlated settings of Marsden et al., "Universal Test-time Adaptation through Weight
    Ensembling, Diversity Weighting, and Prior Correction", WACV 2024 (after NOTE and LAME).
    """
    if not concentration >= 0:
        raise ValueError(f"concentration must be 0 or more, not {concentration}")
    stream = continual(dataset, domains, severity=severity, batch_size=batch_size, seed=seed)
    random = np.random.default_rng([seed, 5])
    if mixed:
        plan = stream.plan.iloc[random.permutation(len(stream.plan))].assign(block=0)
        labels = dataset.labels[torch.tensor(plan["index"].to_numpy())].numpy()
        plan = plan.iloc[_by_class(labels, concentration, random)]
        return Stream(dataset, plan, batch_size=batch_size, seed=seed, name="correlated, mixed")
    index = _by_class(dataset.labels.numpy(), concentration, random)
    plan = stream.plan.assign(index=np.tile(index, len(domains)))
    return Stream(dataset, plan, batch_size=batch_size, seed=seed, name="correlated")


def _by_class(labels: np.ndarray, concentration: float, random: np.random.Generator) -> np.ndarray:
    """Return the positions sorted by label, or in Dirichlet chunks (see `correlated`)."""
    if concentration == 0:
        return np.argsort(labels, kind="stable")
    classes = np.unique(labels)
    chunks: list[list[np.ndarray]] = [[] for _ in classes]
    for label in classes:
        members = random.permutation(np.flatnonzero(labels == label))
        shares = random.dirichlet(np.full(len(classes), concentration))
        edges = np.round(np.cumsum(shares)[:-1] * len(members)).astype(int)
        for chunk, part in zip(chunks, np.split(members, edges), strict=True):
            chunk.append(part)
    ordered = [chunk[i] for chunk in chunks for i in random.permutation(len(chunk))]
    return np.concatenate(ordered)


def check_cells(dataset: ImageSet, cells: Sequence[Any]) -> None:
    """Refuse streams without a domain or an image.

    Raises
    ------
    ValueError
        If `cells` (domains, or pairs of domain and severity) or the dataset is empty.
    """
    if not len(cells):
        raise ValueError("a stream needs at least one domain")
    if not len(dataset):
        raise ValueError("a stream needs at least one image")
