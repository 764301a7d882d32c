"""How wrong a network is under two corruptions at once, by their severities."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, product

import numpy as np
import pandas as pd
from torch import nn
from tqdm.auto import tqdm

from tttlib import corruptions, streams
from tttlib.data import ImageSet
from tttlib.evaluate.standard_ttt import source
from tttlib.streams.changing_orders import COLUMNS
from tttlib.streams.corrupted_images import JOIN
from tttlib.streams.stream import SECOND


def calibrate(
    model: nn.Module,
    dataset: ImageSet,
    domains: Sequence[str] = corruptions.NAMES,
    severities: Sequence[float] = (1, 3, 5),
    *,
    seed: int = 0,
    progress: bool = True,
) -> pd.DataFrame:
    """Return the errors that `streams.changing` needs, of the network that does not adapt.

    Every image is seen once without a corruption, under every corruption at every severity, and
    under every pair of corruptions at every pair of severities: 1 + D S + D (D - 1) S² / 2 times.
    The table is used at severities in between, so it should be as fine as time allows.

    Parameters
    ----------
    model
        The source network.
    dataset
        The images to count errors on; 100 give an error with a standard error of 5 %.
    domains
        Different corruptions; of a pair, the one that is named first is made first.
    severities
        Different numbers from 1 to 5, in rising order. Errors below the first are interpolated from
        those without the corruption.
    seed
        The seed of the corruptions.
    progress
        Whether to show a progress bar.

    Returns
    -------
    DataFrame
        Columns first, second ("" for none; both for clean images), severity, second_severity, n,
        error (a fraction).

    Raises
    ------
    ValueError
        For a domain named twice, and severities that do not rise, or lie outside 1 to 5.
    """
    levels = [float(s) for s in severities]
    if not levels or levels[0] < 1 or levels[-1] > 5 or levels != sorted(set(levels)):
        raise ValueError(f"severities must rise from 1 or more to 5 or less, not {[*severities]}")
    if len(set(domains)) != len(domains):
        raise ValueError(f"a domain occurs twice: {', '.join(domains)}")
    cells = [("", "", 0.0, 0.0), *((d, "", s, 0.0) for d, s in product(domains, levels))]
    for (first, second), at in product(combinations(domains, 2), product(levels, levels)):
        cells.append((first, second, *at))
    parts = np.array_split(np.arange(len(cells)), max(1, len(cells) // 20))
    errors = []
    for part in tqdm(parts, desc="calibration", unit="part", disable=not progress):
        stream = _stream(dataset, [cells[i] for i in part], seed)
        errors.append(1 - source(model, stream).groupby("block")["correct"].mean())
    table = pd.DataFrame(cells, columns=["first", "second", "severity", SECOND])
    table = table.assign(n=len(dataset), error=pd.concat(errors).round(4).to_numpy())
    return table[list(COLUMNS)]


def _stream(
    dataset: ImageSet, cells: Sequence[tuple[str, str, float, float]], seed: int
) -> streams.Stream:
    """Return a stream of all images in each cell of the table; its blocks are the cells."""
    blocks = np.repeat(np.arange(len(cells)), len(dataset))
    names = [_domain(first, second) for first, second, _, _ in cells]
    severities = np.array([cell[2:] for cell in cells])[blocks]
    plan = pd.DataFrame(
        {
            "index": np.tile(np.arange(len(dataset)), len(cells)),
            "domain": np.array(names)[blocks],
            "severity": severities[:, 0],
            SECOND: severities[:, 1],
            "block": blocks,
        }
    )
    return streams.Stream(dataset, plan, batch_size=256, seed=seed, name="calibration")


def _domain(first: str, second: str) -> str:
    return f"{first}{JOIN}{second}" if second else first or streams.CLEAN
