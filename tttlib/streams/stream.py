"""The table of what arrives when, and the batches that are made from it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from tttlib import corruptions
from tttlib.data import ImageSet

CLEAN = "clean"
"""The domain without a corruption, allowed wherever a corruption's name is."""

MIXED = "mixed"
"""The domain of a batch whose images have several."""

KEPT_BYTES = 64 * 2**20
"""A stream no larger than this keeps its batches, which several methods then share."""


@dataclass(frozen=True)
class Batch:
    """B images that arrive together.

    Attributes
    ----------
    images
        float32 [B,3,H,W] in [0,1], on the grey levels of 8-bit files.
    labels
        int64 [B].
    domain
        The corruption or "clean"; "mixed" if the images have several.
    severity
        0 for clean images, nan if the images have several severities.
    index
        int64 [B], the positions in the dataset.
    domains
        The domain of each image.
    severities
        float64 [B].
    block
        The number of the block of the stream that the batch belongs to.
    """

    images: Tensor
    labels: Tensor
    domain: str
    severity: float
    index: Tensor
    domains: tuple[str, ...]
    severities: Tensor
    block: int


class Stream(Iterator[Batch]):
    """An iterator over batches of a dataset in the order of a plan; `iter` starts it anew.

    Parameters
    ----------
    dataset
        The clean images.
    plan
        One row per arrival: index (position in the dataset), domain, severity (0 for clean) and
        block. Batches do not cross blocks, so the last batch of a block may be smaller.
    batch_size
        The number of images in a batch.
    seed
        The seed of the corruptions.
    name
        The name of the order, for result rows.
    order
        What protocols say about the order of the images in a block; None if they are as stored.

    Raises
    ------
    ValueError
        If a domain is unknown, a severity lies outside 1 to 5 or `batch_size` is below 1.
    """

    def __init__(
        self,
        dataset: ImageSet,
        plan: pd.DataFrame,
        *,
        batch_size: int,
        seed: int,
        name: str,
        order: str | None = None,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be 1 or more, not {batch_size}")
        self.dataset, self.batch_size, self.seed = dataset, batch_size, seed
        self.name, self.order = name, order
        clean = plan["domain"] == CLEAN
        self.plan = plan.assign(severity=plan["severity"].astype(float).mask(clean, 0.0))
        self.plan = self.plan.reset_index(drop=True)
        for domain, severity in self.plan.groupby("domain", sort=False)["severity"]:
            for extreme in {severity.min(), severity.max()}:  # errors before the first batch
                corrupted(dataset, [0], str(domain), extreme, seed=seed)
        self._spans = list(_spans(self.plan["block"].to_numpy(), batch_size))
        self._next = 0
        self._keeps = len(self.plan) * prod(dataset.images.shape[1:]) <= KEPT_BYTES
        self._kept: dict[int, Tensor] = {}  # uint8 images of the batches made so far

    def __len__(self) -> int:
        """Return the number of batches."""
        return len(self._spans)

    def __iter__(self) -> Stream:
        self._next = 0
        return self

    def __next__(self) -> Batch:
        if self._next == len(self._spans):
            raise StopIteration
        self._next += 1
        return self.batch(self._next - 1)

    def batch(self, number: int) -> Batch:
        """Return batch `number` of the stream, counted from 0."""
        rows = self.plan.iloc[slice(*self._spans[number])]
        levels = self._kept[number] if number in self._kept else self._levels(rows)
        if self._keeps:
            self._kept[number] = levels
        index = torch.tensor(rows["index"].to_numpy())
        domains, severities = rows["domain"].unique(), rows["severity"].unique()
        return Batch(
            images=levels.float() / 255,
            labels=self.dataset.labels[index],
            domain=str(domains[0]) if len(domains) == 1 else MIXED,
            severity=float(severities[0]) if len(severities) == 1 else float("nan"),
            index=index,
            domains=tuple(rows["domain"]),
            severities=torch.tensor(rows["severity"].to_numpy()),
            block=int(rows["block"].iloc[0]),
        )

    def block_of(self, number: int) -> int:
        """Return the block that batch `number` belongs to."""
        return int(self.plan["block"].iloc[self._spans[number][0]])

    def span(self, numbers: Sequence[int]) -> slice:
        """Return the rows of the plan that the consecutive batches `numbers` hold."""
        return slice(self._spans[numbers[0]][0], self._spans[numbers[-1]][1])

    def images(self) -> Tensor:
        """Return all images of the stream in their order, float32 [N,3,H,W] in [0,1]."""
        return self.images_of(self.plan)

    def images_of(self, plan: pd.DataFrame) -> Tensor:
        """Return the images of some rows of the plan, float32 [B,3,H,W] in [0,1]."""
        return self._levels(plan).float() / 255

    def _levels(self, plan: pd.DataFrame) -> Tensor:
        """Return the images of some rows of the plan on their grey levels, uint8 [B,3,H,W]."""
        levels = torch.empty((len(plan), *self.dataset.images.shape[1:]), dtype=torch.uint8)
        plan = plan.reset_index(drop=True)
        for _, part in plan.groupby(["domain", "severity"], sort=False):
            name, severity = part["domain"].iloc[0], float(part["severity"].iloc[0])
            index = part["index"].to_list()
            rows = torch.tensor(part.index.to_numpy())
            levels[rows] = corrupted(self.dataset, index, name, severity, seed=self.seed)
        return levels

    def rows(self) -> pd.DataFrame:
        """Return the plan with position, id, label and the dataset's clusters of every arrival."""
        index = torch.tensor(self.plan["index"].to_numpy())
        columns = {"id": self.dataset.ids, "label": self.dataset.labels, **self.dataset.clusters}
        return self.plan.drop(columns="index").assign(
            position=np.arange(len(self.plan)), **{k: v[index].numpy() for k, v in columns.items()}
        )

    def thinned(self, n: int) -> Stream:
        """Return a stream of `n` arrivals, evenly spread over this one and in its order.

        All arrivals are kept if there are fewer than `n`.

        Raises
        ------
        ValueError
            If `n` is below 1.
        """
        if n < 1:
            raise ValueError(f"n must be 1 or more, not {n}")
        kept = np.unique(np.linspace(0, len(self.plan) - 1, min(n, len(self.plan))).round())
        plan = self.plan.iloc[kept.astype(int)]
        return self._part(plan, f"{len(plan)} of {len(self.plan)}")

    def where(self, *, domain: str) -> Stream:
        """Return a stream of the arrivals of one domain, in their order.

        Raises
        ------
        ValueError
            If nothing arrives under this domain.
        """
        plan = self.plan[self.plan["domain"] == domain]
        if plan.empty:
            known = ", ".join(self.plan["domain"].unique())
            raise ValueError(f"no {domain!r} in this stream; it has {known}")
        return self._part(plan, f"{domain} alone")

    def _part(self, plan: pd.DataFrame, name: str) -> Stream:
        how: dict[str, Any] = {
            "batch_size": self.batch_size,
            "seed": self.seed,
            "order": self.order,
        }
        return Stream(self.dataset, plan, name=f"{self.name}, {name}", **how)

    def fingerprint(self) -> str:
        """Return 16 hexadecimal digits of what arrives when: plan, image ids and seed."""
        rows = self.rows()[["id", "domain", "severity", "block"]]
        text = rows.to_csv(index=False) + f"seed {self.seed}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]


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


def _spans(blocks: np.ndarray, batch_size: int) -> Iterator[tuple[int, int]]:
    """Yield first row and end of every batch: at most `batch_size` rows of one block."""
    edges = [0, *(np.flatnonzero(np.diff(blocks)) + 1), len(blocks)]
    for start, end in pairwise(edges):
        for first in range(start, end, batch_size):
            yield int(first), int(min(first + batch_size, end))
