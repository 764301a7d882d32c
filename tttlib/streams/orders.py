"""The orders of the papers: one function each, dataset -> Stream."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from tttlib import corruptions
from tttlib.data import ImageSet
from tttlib.streams.stream import CLEAN, Stream


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
    _check(dataset, domains)
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


def consecutive(
    dataset: ImageSet,
    domains: Sequence[str],
    *,
    severity: float = 5,
    batch_size: int,
    seed: int = 0,
) -> Stream:
    """Each image once: a share of the images under the first domain, then one under the next, …

    Which image falls to which domain does not depend on the order of `domains`; `mixed` with the
    same seed shows the same pairs. Report, experiment E4: four blurs, 1,250 images each.
    """
    plan = _pairs(dataset, [(name, severity) for name in domains], seed)
    return Stream(dataset, plan, batch_size=batch_size, seed=seed, name="consecutive")


def mixed(
    dataset: ImageSet,
    domains: Sequence[str],
    *,
    severity: float = 5,
    batch_size: int,
    seed: int = 0,
    every: bool = False,
    clean: float | None = None,
) -> Stream:
    """Domains shuffled into one stream.

    every  False: each image once, under one domain, the pairs of `consecutive` (report, E4).
           True: each image under every domain (the mixed-domains setting, MDTTA)
    clean  in [0,1]: this share of the images arrives without corruption instead
    """
    if every:
        plan = continual(dataset, domains, severity=severity, batch_size=1, seed=seed).plan
    else:
        plan = _pairs(dataset, [(name, severity) for name in domains], seed)
    random = np.random.default_rng([seed, len(dataset), 2])
    if clean is not None:
        if not 0 <= clean <= 1:
            raise ValueError(f"clean must be a share in [0,1], not {clean}")
        plan.loc[random.random(len(plan)) < clean, "domain"] = CLEAN
    plan = plan.iloc[random.permutation(len(plan))].assign(block=0)
    return Stream(dataset, plan, batch_size=batch_size, seed=seed, name="mixed")


def levels(
    dataset: ImageSet,
    domain: str,
    severities: Sequence[float] = (1, 2, 3, 4, 5),
    *,
    shuffled: bool = False,
    batch_size: int,
    seed: int = 0,
) -> Stream:
    """One corruption, each image once: level after level, or the same pairs shuffled.

    Report, experiment E4b: zoom blur, 1,000 images a level.
    """
    plan = _pairs(dataset, [(domain, s) for s in severities], seed)
    name = "levels"
    if shuffled:
        order = np.random.default_rng([seed, len(dataset), 3]).permutation(len(plan))
        plan, name = plan.iloc[order].assign(block=0), "shuffled levels"
    return Stream(dataset, plan, batch_size=batch_size, seed=seed, name=name)


def interpolated(
    dataset: ImageSet,
    domain: str,
    *,
    low: float = 1,
    high: float = 5,
    shuffled: bool = False,
    batch_size: int,
    seed: int = 0,
) -> Stream:
    """A truly gradual shift: from image to image the severity rises evenly from `low` to `high`.

    Between two levels the corruption's parameters are interpolated (`corruptions.corrupt`).
    shuffled  the same pairs of image and severity in random order
    """
    n = len(dataset)
    random = np.random.default_rng([seed, n, 4])
    plan = pd.DataFrame(
        {
            "index": random.permutation(n),
            "domain": domain,
            "severity": np.linspace(low, high, n),
            "block": 0,
        }
    )
    name = "interpolated"
    if shuffled:
        plan, name = plan.iloc[random.permutation(n)], "shuffled interpolated"
    return Stream(dataset, plan, batch_size=batch_size, seed=seed, name=name)


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


def _pairs(dataset: ImageSet, cells: Sequence[tuple[str, float]], seed: int) -> pd.DataFrame:
    """Each image in one cell (domain, severity), cell after cell; sizes differ by one at most.

    The images are dealt to the cells in a canonical order of the cells, so that the order in which
    they are given changes the order alone.
    """
    _check(dataset, cells)
    order = np.random.default_rng([seed, len(dataset), 1]).permutation(len(dataset))
    canonical = sorted(set(cells))
    share = {cell: order[i :: len(canonical)] for i, cell in enumerate(canonical)}
    parts: list[dict[str, Any]] = []
    for block, cell in enumerate(cells):
        name, severity = cell
        parts.append({"index": share[cell], "domain": name, "severity": severity, "block": block})
    return pd.concat([pd.DataFrame(part) for part in parts], ignore_index=True)


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


def _check(dataset: ImageSet, cells: Sequence[Any]) -> None:
    if not len(cells):
        raise ValueError("a stream needs at least one domain")
    if len(set(cells)) != len(cells):
        raise ValueError(f"a domain occurs twice: {', '.join(map(str, cells))}")
    if not len(dataset):
        raise ValueError("a stream needs at least one image")
