"""The images of one domain: clean, under a corruption, or under one corruption after another."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tttlib import corruptions
from tttlib.corruptions.recipes import recipe_of
from tttlib.data import ImageSet

CLEAN = "clean"
"""The domain without a corruption, allowed wherever a corruption's name is."""

JOIN = "+"
"""Joins the names of two corruptions to a domain: "fog+snow" is fog, and snow on top of it."""


def corrupted(
    dataset: ImageSet, index: Sequence[int], name: str, severity: float, *, seed: int = 0
) -> Tensor:
    """Return the images at positions `index` under a corruption, uint8 [B,3,H,W].

    They are made by `corruptions.corrupt`, or read where the dataset has released files. The
    corruption "clean" leaves the images as they are.
    """
    rows = torch.tensor(index)
    if name == CLEAN:
        return dataset.images[rows]
    ids = dataset.ids[rows]
    if dataset.released is not None:
        return dataset.released.images(name, severity, ids)
    return corruptions.corrupt(dataset.images[rows], name, severity, ids=ids, seed=seed)


def composed(
    dataset: ImageSet,
    index: Sequence[int],
    domain: str,
    severity: float,
    second_severity: float,
    *,
    seed: int = 0,
) -> Tensor:
    """Return the images at positions `index` under two corruptions, uint8 [B,3,H,W].

    The second corruption is made of the grey levels that the first one left. Severities lie in
    [0,5]. What lies below 1 is a mixture: at 0.3 an image is 0.3 times itself at severity 1 and 0.7
    times what it was before, rounded to grey levels; at 0 nothing happens to it.

    Parameters
    ----------
    domain
        Two names joined by "+".
    severity, second_severity
        Of the first and of the second corruption.
    dataset, index, seed
        As in `corrupted`.

    Raises
    ------
    ValueError
        For anything but two different known corruptions, a severity outside [0,5], and a dataset
        whose corrupted images are released files: they have no second corruption.
    """
    names = parts(domain)
    if dataset.released is not None:
        raise ValueError(f"the files of {dataset.released.name} have one corruption, not {domain}")
    rows = torch.tensor(index)
    levels, ids = dataset.images[rows], dataset.ids[rows]
    for name, s in zip(names, (severity, second_severity), strict=True):
        if not 0 <= s <= 5:
            raise ValueError(f"severity must be a number from 0 to 5 in {domain}, got {s!r}")
        if s > 0:
            made = corruptions.corrupt(levels, name, max(1.0, float(s)), ids=ids, seed=seed)
            levels = made if s >= 1 else _between(levels, made, s)
    return levels


def is_composed(domain: str) -> bool:
    """Return whether a domain names two corruptions."""
    return JOIN in domain


def parts(domain: str) -> tuple[str, str]:
    """Return the two corruptions of a composed domain.

    Raises
    ------
    ValueError
        For anything but two different known corruptions joined by "+".
    """
    names = domain.split(JOIN)
    for name in names:
        recipe_of(name)
    if len(names) != 2 or names[0] == names[1]:
        raise ValueError(f"a domain has one corruption or two different ones, not {domain!r}")
    return names[0], names[1]


def _between(before: Tensor, after: Tensor, share: float) -> Tensor:
    """Return the grey levels that lie `share` of the way from `before` to `after`, uint8."""
    return torch.lerp(before.float(), after.float(), share).round_().to(torch.uint8)
