"""A stream whose corruptions change all the time while it stays about equally hard.

One corruption fades out while the next one fades in on top of it; both severities walk so that the
network that does not adapt keeps about the same error. So a falling accuracy is the method's own,
not that of a harder domain, and no border between domains helps it.

After CCC: Press et al., "RDumb: A simple approach that questions our progress in continual
test-time adaptation", NeurIPS 2023, arXiv 2306.05401. Known deviations: any network can be
calibrated, not ResNet-50 alone; a change between two corruptions takes 1000, 2000 or 5000 images,
where CCC shows as many at each of its dozens of severities in between; images are not cropped and
flipped at random; of a pair, the same corruption always comes first.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from itertools import pairwise

import numpy as np
import pandas as pd

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
Cells = dict[tuple[str, str, float, float], float]


def changing(
    dataset: ImageSet,
    calibration: pd.DataFrame,
    domains: Sequence[str] | None = None,
    *,
    error: float,
    length: int = 30_000,
    speed: str | int = "medium",
    batch_size: int,
    seed: int = 0,
) -> Stream:
    """Let corruptions fade into each other at a nearly constant error of the unadapted network.

    A block is the change from one corruption to the next, and its domain both names
    ("fog+snow"). The corruptions come in random order, each once before any comes again. The images
    arrive in one shuffled order, over and over, so none comes twice in a short time.

    Parameters
    ----------
    dataset
        The clean images.
    calibration
        The errors of the network by corruptions and severities, from `calibration` or
        `evaluate.calibrate`.
    domains
        At least two different corruptions, all in the table; None: those that alone reach the
        error. One that does not is shown where it comes nearest.
    error
        The error that the walk keeps to, a fraction.
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
        that is not in the table, an error outside those of the table, and what is no such table.
    """
    images = SPEEDS.get(speed, speed) if isinstance(speed, str) else speed
    if isinstance(images, str):
        raise ValueError(f"unknown speed {images!r}; known are {', '.join(SPEEDS)}, or a number")
    if min(images, length) < 1:
        raise ValueError(f"speed and length must be 1 or more, not {images} and {length}")
    cells = _by_cell(calibration)
    names = _reaching(cells, error) if domains is None else list(domains)
    if len(names) < 2 or len(set(names)) < len(names):
        which = "that reach this error" if domains is None else "that differ"
        raise ValueError(f"a change needs two or more corruptions {which}, not {names}")
    check_cells(dataset, names)
    random = np.random.default_rng([seed, len(dataset), 9])
    parts = []
    for block, (old, new) in enumerate(pairwise(_sequence(names, -(-length // images), random))):
        path = _walk(cells, old, new, error)
        path = (path[1:] or path) if block else path  # the change before ended where this begins
        nodes = np.array(path)[np.arange(images) * len(path) // images]  # [images,2]: old, new
        if _swapped(cells, old, new):
            old, new, nodes = new, old, nodes[:, ::-1]
        part = pd.DataFrame(nodes, columns=["severity", SECOND])
        parts.append(part.assign(domain=f"{old}{JOIN}{new}", block=block))
    plan = pd.concat(parts, ignore_index=True).iloc[:length]
    plan = plan.assign(index=np.resize(random.permutation(len(dataset)), length))
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
    and up for `new`. Of all such ways it is one with the least sum of |E - error|; E is
    interpolated between the severities of the table, linearly in each.

    Raises
    ------
    ValueError
        For a pair that is not in the table, and an error outside those of the table.
    """
    return _walk(_by_cell(calibration), old, new, error)


def _walk(cells: Cells, old: str, new: str, error: float) -> list[Node]:
    low, high = min(cells.values()), max(cells.values())
    if not low < error < high:
        raise ValueError(f"error must lie between {low:g} and {high:g}, as calibrated; not {error}")
    severities, fine = _fine(cells, old, new)  # [F], [F,F]: of old, of new
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


def _by_cell(calibration: pd.DataFrame) -> Cells:
    """Return the errors of a table by (first, second, severity, second severity)."""
    missing = [name for name in COLUMNS if name not in calibration]
    if missing:
        raise ValueError(f"a calibration table needs the column {missing[0]!r}")
    cells = calibration[["first", "second", "severity", SECOND, "error"]]
    return {
        (str(a), str(b), float(s), float(t)): float(error)
        for a, b, s, t, error in cells.itertuples(index=False)
    }


def _fine(cells: Cells, old: str, new: str) -> tuple[np.ndarray, np.ndarray]:
    """Return severities [F] in steps of `STEP`, and the error there: [F,F], of old and of new."""
    first, second = (new, old) if _swapped(cells, old, new) else (old, new)
    grid = [0.0, *sorted({s for a, b, s, _ in cells if (a, b) == (first, second)})]

    def at(s: float, t: float) -> tuple[str, str, float, float]:
        if s and t:
            return first, second, s, t
        return (first, "", s, 0.0) if s else (second, "", t, 0.0) if t else ("", "", 0.0, 0.0)

    wanted = [[at(s, t) for t in grid] for s in grid]
    if lacking := [cell for row in wanted for cell in row if cell not in cells]:
        raise ValueError(f"the calibration table lacks {lacking[0]}")
    coarse = np.array([[cells[cell] for cell in row] for row in wanted])  # [G,G]
    severities = np.arange(0, grid[-1] + STEP / 2, STEP)
    share = np.stack([np.interp(severities, grid, unit) for unit in np.eye(len(grid))], 1)  # [F,G]
    fine = share @ coarse @ share.T
    return severities, fine if first == old else fine.T


def _swapped(cells: Cells, old: str, new: str) -> bool:
    """Return whether the table has `old` on top of `new`, not `new` on top of `old`."""
    pairs = {cell[:2] for cell in cells}
    if (old, new) not in pairs and (new, old) not in pairs:
        raise ValueError(f"{old} and {new} together are not in the calibration table")
    return (old, new) not in pairs


def _reaching(cells: Cells, error: float) -> list[str]:
    """Return the corruptions that alone reach the error, in the order of the table."""
    alone = [
        first for (first, second, *_), e in cells.items() if first and not second and e >= error
    ]
    return list(dict.fromkeys(alone))


def _sequence(domains: Sequence[str], changes: int, random: np.random.Generator) -> list[str]:
    """Return `changes` + 1 corruptions: shuffled rounds of all, no two equal ones in a row."""
    chosen: list[str] = []
    while len(chosen) <= changes:
        following = [domains[i] for i in random.permutation(len(domains))]
        if chosen and following[0] == chosen[-1]:
            following = [*following[1:], following[0]]
        chosen += following
    return chosen[: changes + 1]
