"""The table of what arrives when, and the batches that are made from it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from tttlib.data import ImageSet
from tttlib.streams.corrupted_images import CLEAN, composed, corrupted, is_composed

MIXED = "mixed"
"""The domain of a batch whose images have several."""

SECOND = "second_severity"
"""The column of a plan, and of rows, for the second corruption of a domain such as "fog+snow"."""

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
    second_severities
        float64 [B], of the second corruption of domains that have two; None in streams without.
    """

    images: Tensor
    labels: Tensor
    domain: str
    severity: float
    index: Tensor
    domains: tuple[str, ...]
    severities: Tensor
    block: int
    second_severities: Tensor | None = None


class Stream(Iterator[Batch]):
    """An iterator over batches of a dataset in the order of a plan; `iter` starts it anew.

    Parameters
    ----------
    dataset
        The clean images.
    plan
        One row per arrival: index (position in the dataset), domain, severity (0 for clean) and
        block. Batches do not cross blocks, so the last batch of a block may be smaller. Where a
        domain is two corruptions ("fog+snow", see `corrupted_images.composed`), `severity` is that
        of the first and a column `second_severity` that of the second. More columns go to the rows.
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
        If a domain is unknown, a severity lies outside 1 to 5 (0 to 5 where a domain is two
        corruptions), two corruptions lack their second severity, or `batch_size` is below 1.
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
        self._severities = ["severity"]
        if SECOND in plan:
            single = ~plan["domain"].map(is_composed)
            self.plan[SECOND] = plan[SECOND].astype(float).mask(single, 0.0)
            self._severities.append(SECOND)
        if self.plan[self._severities].isna().any(axis=None):
            raise ValueError("an arrival of the plan has no severity")
        self.plan = self.plan.reset_index(drop=True)
        for domain, part in self.plan.groupby("domain", sort=False)[self._severities]:
            for extreme in {tuple(part.min()), tuple(part.max())}:  # errors before the first batch
                self._made([0], str(domain), extreme)
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
            second_severities=torch.tensor(rows[SECOND].to_numpy()) if SECOND in rows else None,
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
        for _, part in plan.groupby(["domain", *self._severities], sort=False):
            domain, index = part["domain"].iloc[0], part["index"].to_list()
            rows = torch.tensor(part.index.to_numpy())
            levels[rows] = self._made(index, domain, part[self._severities].iloc[0])
        return levels

    def _made(self, index: Sequence[int], domain: str, severities: Iterable[float]) -> Tensor:
        """Return the images at positions `index` under one domain, uint8 [B,3,H,W]."""
        first, *second = map(float, severities)
        if not is_composed(domain):
            return corrupted(self.dataset, index, domain, first, seed=self.seed)
        if not second:
            raise ValueError(f"a plan with the domain {domain!r} needs a column {SECOND!r}")
        return composed(self.dataset, index, domain, first, *second, seed=self.seed)

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
        rows = self.rows()[["id", "domain", *self._severities, "block"]]
        text = rows.to_csv(index=False) + f"seed {self.seed}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _spans(blocks: np.ndarray, batch_size: int) -> Iterator[tuple[int, int]]:
    """Yield first row and end of every batch: at most `batch_size` rows of one block."""
    edges = [0, *(np.flatnonzero(np.diff(blocks)) + 1), len(blocks)]
    for start, end in pairwise(edges):
        for first in range(start, end, batch_size):
            yield int(first), int(min(first + batch_size, end))
