"""The orders of online test-time training: every image once, under one domain."""

from __future__ import annotations

from collections.abc import Sequence

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
    """Show each image once: a share of the images under each domain, domain after domain.

    Which domain an image falls to does not depend on the order of `domains`, and `mixed` with the
    same seed shows the same pairs. A domain that is named twice comes back with other images. The
    online report has four blurs and 1,250 images of each.

    Parameters
    ----------
    dataset
        The clean images.
    domains
        Corruptions or "clean", in the order in which they arrive; one block each.
    severity
        A number from 1 to 5.
    batch_size
        The number of images in a batch.
    seed
        The seed of the pairs and of the corruptions.
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
    """Shuffle the domains into one block.

    Parameters
    ----------
    every
        False shows each image once, in the pairs of `consecutive`. True shows each image under
        every domain (the mixed-domains setting, MDTTA).
    clean
        The share of the images that arrives without a corruption instead, in [0,1].
    dataset, domains, severity, batch_size, seed
        As in `consecutive`.

    Raises
    ------
    ValueError
        If the share lies outside [0,1].
    """
    if every:
        stored = continual(dataset, domains, severity=severity, batch_size=1, order="as stored")
        plan = stored.plan
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
    """Show each image once under one corruption, severity after severity.

    The online report has zoom blur and 1,000 images of each severity.

    Parameters
    ----------
    shuffled
        Show the same pairs of image and severity in random order.
    dataset, domain, batch_size, seed
        As in `consecutive`, with a single domain.
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
    """Raise the severity of one corruption evenly from image to image, each shown once.

    This is a truly gradual shift: between two whole severities `corruptions.corrupt` interpolates
    the parameters of the corruption.

    Parameters
    ----------
    low, high
        Severity of the first and of the last image.
    shuffled
        Show the same pairs of image and severity in random order.
    dataset, domain, batch_size, seed
        As in `consecutive`, with a single domain.
    """
    n = len(dataset)
    random = np.random.default_rng([seed, n, 4])
    severities = np.linspace(low, high, n)
    plan = pd.DataFrame({"index": random.permutation(n)})
    plan = plan.assign(domain=domain, severity=severities, block=0)
    name = "interpolated"
    if shuffled:
        plan, name = plan.iloc[random.permutation(n)], "shuffled interpolated"
    return Stream(dataset, plan, batch_size=batch_size, seed=seed, name=name)


def _pairs(dataset: ImageSet, cells: Sequence[tuple[str, float]], seed: int) -> pd.DataFrame:
    """Return a plan with each image in one cell (domain, severity), cell after cell.

    The sizes of the cells differ by one at most. The images are dealt to the sorted cells, so the
    order in which the cells are given changes nothing but the order of arrival.
    """
    check_cells(dataset, cells)
    order = np.random.default_rng([seed, len(dataset), 1]).permutation(len(dataset))
    canonical = sorted((cell, block) for block, cell in enumerate(cells))
    parts = [
        pd.DataFrame({"index": order[canonical.index((cell, block)) :: len(cells)]}).assign(
            domain=cell[0], severity=cell[1], block=block
        )
        for block, cell in enumerate(cells)
    ]
    return pd.concat(parts, ignore_index=True)
