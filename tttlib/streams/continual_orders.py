"""The orders of continual test-time adaptation: every image under every domain."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from tttlib import corruptions
from tttlib.data import ImageSet
from tttlib.streams.stream import Stream

SCHEDULES = {
    "released": ((1, 2, 3, 4, 5, 4, 3, 2, 1),) * 2,
    "cotta": ((5, 4, 3, 2, 1), (1, 2, 3, 4, 5, 4, 3, 2, 1)),
}
"""Severities of the first corruption and of the later ones in the gradual setting."""


def continual(
    dataset: ImageSet,
    domains: Sequence[str] = corruptions.NAMES,
    *,
    severity: float = 5,
    batch_size: int,
    seed: int = 0,
) -> Stream:
    """Every image under one domain after the other, in the order given; the dataset's order inside.

    CoTTA's and PALM's continual setting (CTTA): 15 corruptions, severity 5.
    """
    check_cells(dataset, domains)
    n = len(dataset)
    plan = pd.DataFrame(
        {
            "index": np.tile(np.arange(n), len(domains)),
            "domain": np.repeat(list(domains), n),
            "severity": severity,
            "block": np.repeat(np.arange(len(domains)), n),
        }
    )
    return Stream(dataset, plan, batch_size=batch_size, seed=seed, name="continual")


def gradual(
    dataset: ImageSet,
    domains: Sequence[str] = corruptions.NAMES,
    *,
    schedule: str = "released",
    batch_size: int,
    seed: int = 0,
) -> Stream:
    """Every corruption rises and falls in severity (GTTA); all images at each of its severities.

    schedule  "released" (PALM's, LAW's code: 1 to 5 to 1, 135 blocks for 15 corruptions) or "cotta"
              (its code: the first corruption starts at 5, 131 blocks)
    A block is one severity of one corruption. Tables average over all blocks, over those of
    severity 5, or over the rising half (`rising`): PALM's text and code differ in which.
    Raises ValueError for an unknown schedule.
    """
    if schedule not in SCHEDULES:
        raise ValueError(f"unknown schedule {schedule!r}; known are {', '.join(SCHEDULES)}")
    check_cells(dataset, domains)
    first, later = SCHEDULES[schedule]
    cells = [(d, s) for i, d in enumerate(domains) for s in (later if i else first)]
    n = len(dataset)
    plan = pd.DataFrame(
        {
            "index": np.tile(np.arange(n), len(cells)),
            "domain": np.repeat([d for d, _ in cells], n),
            "severity": np.repeat([float(s) for _, s in cells], n),
            "block": np.repeat(np.arange(len(cells)), n),
        }
    )
    return Stream(dataset, plan, batch_size=batch_size, seed=seed, name=f"gradual, {schedule}")


def rising(rows: pd.DataFrame) -> pd.Series:
    """Which rows of a gradual stream belong to the rising half of their corruption, bool [N].

    A block rises when the severity of the next block of its corruption is not lower, or when it is
    the peak (the last block at the highest severity so far).
    """
    blocks = rows.drop_duplicates("block").sort_values("block")
    group = blocks.groupby("domain", sort=False)["severity"]
    peak = blocks["block"].where(blocks["severity"] == group.transform("max"))
    last = peak.groupby(blocks["domain"]).transform("max")
    return rows["block"].isin(blocks.loc[blocks["block"] <= last, "block"])


def orders(domains: Sequence[str], n: int, seed: int = 0) -> list[tuple[str, ...]]:
    """The order given, then `n` - 1 seeded random orders of the domains, all different.

    CoTTA averages over ten random orders, of which its repository fixes the seeds.
    Raises ValueError when there are fewer orders than asked for.
    """
    if not 1 <= n <= math.factorial(len(domains)):
        raise ValueError(f"{len(domains)} domains do not have {n} different orders")
    random, found = np.random.default_rng([seed, len(domains), 6]), [tuple(domains)]
    while len(found) < n:
        order = tuple(domains[i] for i in random.permutation(len(domains)))
        if order not in found:
            found.append(order)
    return found


def correlated(
    dataset: ImageSet,
    domains: Sequence[str] = corruptions.NAMES,
    *,
    severity: float = 5,
    concentration: float = 0,
    batch_size: int,
    seed: int = 0,
) -> Stream:
    """`continual` with dependent labels inside each domain.

    concentration  0: sorted by class. Above 0: every class is cut into as many chunks as there are
                   classes, of Dirichlet(concentration) sizes, and chunk k of all classes arrives
                   before chunk k + 1; large values approach a shuffled order. Chunks are shuffled.
    Raises ValueError for a concentration below 0.

    Source: the correlated settings of Marsden et al., "Universal Test-time Adaptation through
    Weight Ensembling, Diversity Weighting, and Prior Correction", WACV 2024 (after NOTE and LAME).
    """
    if not concentration >= 0:
        raise ValueError(f"concentration must be 0 or more, not {concentration}")
    stream = continual(dataset, domains, severity=severity, batch_size=batch_size, seed=seed)
    order = _by_class(dataset.labels.numpy(), concentration, np.random.default_rng([seed, 5]))
    n = len(dataset)
    plan = stream.plan.assign(index=np.tile(order, len(domains))) if n else stream.plan
    return Stream(dataset, plan, batch_size=batch_size, seed=seed, name="correlated")


def _by_class(labels: np.ndarray, concentration: float, random: np.random.Generator) -> np.ndarray:
    """Positions sorted by label, or in Dirichlet chunks (see `correlated`)."""
    if concentration == 0:
        return np.argsort(labels, kind="stable")
    classes = np.unique(labels)
    chunks: list[list[np.ndarray]] = [[] for _ in classes]
    for name in classes:
        members = random.permutation(np.flatnonzero(labels == name))
        shares = random.dirichlet(np.full(len(classes), concentration))
        edges = np.round(np.cumsum(shares)[:-1] * len(members)).astype(int)
        for chunk, part in zip(chunks, np.split(members, edges), strict=True):
            chunk.append(part)
    ordered = [chunk[i] for chunk in chunks for i in random.permutation(len(chunk))]
    return np.concatenate(ordered)


def check_cells(dataset: ImageSet, cells: Sequence[Any]) -> None:
    """ValueError for no domain, one that occurs twice, and a dataset without images."""
    if not len(cells):
        raise ValueError("a stream needs at least one domain")
    if len(set(cells)) != len(cells):
        raise ValueError(f"a domain occurs twice: {', '.join(map(str, cells))}")
    if not len(dataset):
        raise ValueError("a stream needs at least one image")
