"""A stream whose corruptions change all the time while it stays about equally hard.

One corruption fades out while the next one fades in on top of it; both severities walk so that the
network that does not adapt keeps about the same error. So a falling accuracy is the method's own,
not that of a harder domain, and no border between domains helps it.

After CCC: Press et al., "RDumb: A simple approach that questions our progress in continual test-time
adaptation", NeurIPS 2023, arXiv 2306.05401. Known deviations: any network can be calibrated, not
ResNet-50 alone; a change between two corruptions takes 1000, 2000 or 5000 images, where CCC shows
as many at each of its dozens of severities in between; two corruptions are made in one fixed order.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from itertools import pairwise

import numpy as np
import pandas as pd

from tttlib import corruptions
from tttlib.data import ImageSet
from tttlib.streams.continual_orders import check_cells
from tttlib.streams.corrupted_images import JOIN
from tttlib.streams.stream import SECOND, Stream

SPEEDS = {"fast": 1000, "medium": 2000, "slow": 5000}
"""Images of a change from one corruption to the next."""

STEP = 0.25
"""Of a walk: one of the two severities moves by so much."""

COLUMNS = ("first", "second", "severity", SECOND, "n", "error")
"""Of a calibration table: two corruptions, their severities, and the error of n images."""

Node = tuple[float, float]


def changing(
    dataset: ImageSet,
    calibration: pd.DataFrame,
    domains: Sequence[str] = corruptions.NAMES,
    *,
    error: float = 0.5,
    length: int = 30_000,
    speed: str | int = "medium",
    batch_size: int,
    seed: int = 0,
) -> Stream:
    """Let corruptions fade into each other at a nearly constant error of the unadapted network.

    A block is the change from one corruption to the next, and its domain both names
    ("fog+snow"). The corruptions come in random order, each once before any comes again. The images
    arrive in shuffled passes over the dataset.

    Parameters
    ----------
    dataset
        The clean images.
    calibration
        The errors of the network by corruptions and severities, from `calibration` or
        `evaluate.calibrate`.
    domains
        At least two different corruptions, all in the table.
    error
        The error that the walk keeps to, a fraction. A corruption that never reaches it, alone or
        with its neighbour, is shown where it comes nearest.
    length
        The number of arrivals; the last change may be cut short.
    speed
        One of `SPEEDS`, or the number of images of a change.
    batch_size
        The number of images in a batch.
    seed
        The seed of the order of corruptions, of the images' order and of the corruptions.

    Raises
    ------
    ValueError
        For an unknown speed, a number below 1, fewer than two corruptions or equal ones, a pair
        that is not in the table, and an error outside those of the table.
    """
    check_cells(dataset, domains)
    images = SPEEDS.get(speed, speed) if isinstance(speed, str) else speed
    if isinstance(images, str):
        raise ValueError(f"unknown speed {images!r}; known are {', '.join(SPEEDS)}, or a number")
    if min(images, length) < 1:
        raise ValueError(f"speed and length must be 1 or more, not {images} and {length}")
    if len(domains) < 2 or len(set(domains)) < len(domains):
        raise ValueError(f"a change needs two or more different corruptions, not {list(domains)}")
    random = np.random.default_rng([seed, len(dataset), 9])
    parts = []
    for block, (old, new) in enumerate(pairwise(_sequence(domains, -(-length // images), random))):
        swapped = not _is_pair(calibration, old, new)
        path = walk(calibration, old, new, error)
        if block:
            path = path[1:] or path  # the change before ended where this one begins
        nodes = np.array(path)[np.arange(images) * len(path) // images]  # [images,2]: old, new
        first, second = (new, old) if swapped else (old, new)
        severities = nodes[:, ::-1] if swapped else nodes
        part = pd.DataFrame(severities, columns=["severity", SECOND])
        parts.append(part.assign(domain=f"{first}{JOIN}{second}", block=block))
    plan = pd.concat(parts, ignore_index=True).iloc[:length]
    passes = [random.permutation(len(dataset)) for _ in range(-(-length // len(dataset)))]
    plan = plan.assign(index=np.concatenate(passes)[:length])
    name, order = f"changing, error {error:g}, {images} images a change", "shuffled by the seed"
    return Stream(dataset, plan, batch_size=batch_size, seed=seed, name=name, order=order)


def calibration(network: str) -> pd.DataFrame:
    """Return the stored calibration table of a bundled network, with the columns `COLUMNS`.

    Raises
    ------
    ValueError
        For a network without a table; the message lists those that have one.
    """
    folder = resources.files("tttlib") / "streams" / "calibrated"
    known = sorted(f.name[:-4] for f in folder.iterdir() if f.name.endswith(".csv"))
    if network not in known:
        raise ValueError(
            f"no calibration of {network!r}; there are {', '.join(known)}, and evaluate.calibrate "
            "makes one"
        )
    with (folder / f"{network}.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file, keep_default_na=False)


def walk(calibration: pd.DataFrame, old: str, new: str, error: float) -> list[Node]:
    """Return the severities (of `old`, of `new`) on the way from one corruption to the other.

    It begins with `old` alone and ends with `new` alone, each where its own error is nearest to
    `error` (the smallest such severity). In between, one severity moves by `STEP`, down for `old`
    and up for `new`. Of all such ways it is one with the least sum of |E - error|; E is interpolated
    between the severities of the table, linearly in each.

    Raises
    ------
    ValueError
        For a pair that is not in the table, and an error outside those of the table.
    """
    severities, fine = _fine(calibration, old, new)  # [F], [F,F]: of old, of new
    low, high = calibration["error"].min(), calibration["error"].max()
    if not low < error < high:
        raise ValueError(f"error must lie between {low:g} and {high:g}, as calibrated; not {error}")
    distance = np.abs(fine - error)
    start, end = int(distance[:, 0].argmin()), int(distance[0].argmin())
    distance = distance[start::-1, : end + 1]  # from the start down to 0, from 0 up to the end
    total = np.full((start + 2, end + 2), np.inf)  # least sum up to a node, behind a border
    total[0, 1] = 0.0
    for i, j in np.ndindex(distance.shape):
        total[i + 1, j + 1] = distance[i, j] + min(total[i, j + 1], total[i + 1, j])
    i, j, path = start, end, [(start, end)]
    while i or j:
        i, j = (i - 1, j) if total[i, j + 1] <= total[i + 1, j] else (i, j - 1)
        path.append((i, j))
    return [(float(severities[start - i]), float(severities[j])) for i, j in reversed(path)]


def _fine(calibration: pd.DataFrame, old: str, new: str) -> tuple[np.ndarray, np.ndarray]:
    """Return severities [F] in steps of `STEP`, and the error there: [F,F], of old and of new."""
    if swapped := not _is_pair(calibration, old, new):
        first, second = new, old
    else:
        first, second = old, new
    if not _is_pair(calibration, first, second):
        raise ValueError(f"{old} and {new} are not in the calibration table")
    table = calibration[
        ((calibration["first"] == first) & calibration["second"].isin([second, ""]))
        | ((calibration["first"] == second) & (calibration["second"] == ""))
        | (calibration["first"] == "")
    ]
    # Rows of a single corruption have it as the first one; here it may be the second.
    alone = table["first"] == second
    rows = table["severity"].mask(alone, 0.0)
    columns = table[SECOND].mask(alone, table["severity"])
    grid = np.unique(rows)
    errors = table.assign(rows=rows, columns=columns).pivot(
        index="rows", columns="columns", values="error"
    )
    if errors.shape != (len(grid), len(grid)) or errors.isna().any(axis=None):
        raise ValueError(f"the calibration table lacks severities of {first} and {second}")
    severities = np.arange(grid[0], grid[-1] + STEP / 2, STEP)
    share = np.stack([np.interp(severities, grid, unit) for unit in np.eye(len(grid))], 1)  # [F,G]
    fine = share @ errors.to_numpy() @ share.T
    return severities, fine.T if swapped else fine


def _is_pair(calibration: pd.DataFrame, first: str, second: str) -> bool:
    """Return whether the table has `second` on top of `first`."""
    return bool(((calibration["first"] == first) & (calibration["second"] == second)).any())


def _sequence(domains: Sequence[str], changes: int, random: np.random.Generator) -> list[str]:
    """Return `changes` + 1 corruptions: shuffled rounds of all, no two equal ones in a row."""
    chosen: list[str] = []
    while len(chosen) <= changes:
        following = [domains[i] for i in random.permutation(len(domains))]
        if chosen and following[0] == chosen[-1]:
            following = [*following[1:], following[0]]
        chosen += following
    return chosen[: changes + 1]
