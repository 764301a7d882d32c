"""The orders of online test-time training: every image once, under one domain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from tttlib.data import ImageSet
from tttlib.streams.continual_orders import check_cells, continual
from tttlib.streams.stream import CLEAN, Stream


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
    Raises ValueError for a share outside [0,1].
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


def _pairs(dataset: ImageSet, cells: Sequence[tuple[str, float]], seed: int) -> pd.DataFrame:
    """Each image in one cell (domain, severity), cell after cell; sizes differ by one at most.

    The images are dealt to the cells in a canonical order of the cells, so that the order in which
    they are given changes the order alone.
    """
    check_cells(dataset, cells)
    order = np.random.default_rng([seed, len(dataset), 1]).permutation(len(dataset))
    canonical = sorted(set(cells))
    share = {cell: order[i :: len(canonical)] for i, cell in enumerate(canonical)}
    parts: list[dict[str, Any]] = []
    for block, cell in enumerate(cells):
        name, severity = cell
        parts.append({"index": share[cell], "domain": name, "severity": severity, "block": block})
    return pd.concat([pd.DataFrame(part) for part in parts], ignore_index=True)
