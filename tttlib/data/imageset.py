"""The one record every dataset is served as, and where its files are looked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from tttlib.data.corrupted import LazyImages, kept, take
from tttlib.runtime.paths import cache_root as cache_root
from tttlib.runtime.paths import data_root as data_root

if TYPE_CHECKING:
    from tttlib.data.released import Released

SPLITS = ("train", "valid", "test")


class MissingDataError(FileNotFoundError):
    """The files of a dataset are not where they were looked for."""


class DamagedDataError(ValueError):
    """The files of a dataset are there, but truncated or inconsistent."""


@dataclass(frozen=True)
class ImageSet:
    """Labelled images of one split of one dataset.

    images      uint8 [N,3,H,W], RGB; a tensor, possibly memory-mapped, or `Lazy` images, which are
                indexed like one
    labels      int64 [N], indices into `classes`
    classes     names of the C classes, in the order of the label indices
    ids         int64 [N], stable identity of each image (survives `subset`), seeds corruptions
    boxes       float32 [N,4] or None: xmin, ymin, xmax, ymax in pixels, maxima exclusive
    clusters    name -> int64 [N]: what makes images dependent (clustered bootstrap); may be empty
    fingerprint identifies the source's bytes (and, for generated sets, the generator's version)
    released    None: corruptions are made here; else where corrupted images are looked up
    """

    name: str
    split: str
    images: Any  # Tensor | Lazy; typed as either it would need a cast at every use
    labels: Tensor
    classes: tuple[str, ...]
    ids: Tensor
    fingerprint: str
    boxes: Tensor | None = None
    clusters: Mapping[str, Tensor] = field(default_factory=dict)
    released: Released | None = None

    def __post_init__(self) -> None:
        n = len(self.images)
        if self.images.dtype != torch.uint8 or self.images.ndim != 4 or self.images.shape[1] != 3:
            raise ValueError(
                f"images of {self.name!r} must be uint8 [N,3,H,W], "
                f"got {self.images.dtype} {tuple(self.images.shape)}"
            )
        columns = {"labels": self.labels, "ids": self.ids, **self.clusters}
        if self.boxes is not None:
            columns["boxes"] = self.boxes
        for name, column in columns.items():
            if len(column) != n:
                raise ValueError(f"{self.name!r} has {n} images but {len(column)} {name}")

    def __len__(self) -> int:
        return len(self.images)

    @property
    def image_size(self) -> int:
        """Height (= width) in pixels."""
        return int(self.images.shape[-1])

    def subset(self, index: Tensor | Sequence[int] | np.ndarray) -> ImageSet:
        """The images at `index` (int [M] positions or bool [N]), in that order; ids stay."""
        where = torch.as_tensor(np.asarray(index))
        where = where.nonzero().squeeze(1) if where.dtype == torch.bool else where.long()
        return replace(
            self,
            images=take(self.images, where),
            labels=self.labels[where],
            ids=self.ids[where],
            boxes=None if self.boxes is None else self.boxes[where],
            clusters={k: v[where] for k, v in self.clusters.items()},
        )

    def sample(self, n: int, seed: int = 0, *, skip: int = 0) -> ImageSet:
        """`n` images drawn without replacement: positions skip … skip+n of a seeded shuffle.

        With one seed, `sample(a)` and `sample(b, skip=a)` are disjoint. Raises ValueError when the
        set has fewer than skip + n images.
        """
        if not 0 < n <= len(self) - skip or skip < 0:
            raise ValueError(
                f"cannot draw {n} images after skipping {skip}: "
                f"{self.name!r} split {self.split!r} has {len(self)}; ask for fewer"
            )
        order = np.random.default_rng([seed, len(self)]).permutation(len(self))
        return self.subset(order[skip : skip + n])

    def of_classes(self, labels: Sequence[int]) -> ImageSet:
        """Only the images of these label indices (labels and classes stay as they are)."""
        return self.subset(torch.isin(self.labels, torch.as_tensor(list(labels))))

    def corrupted(
        self, name: str, severity: float, *, seed: int = 0, cache: bool | str | Path = False
    ) -> ImageSet:
        """The same set under a corruption (see `corruptions.corrupt`), image by image on demand.

        cache  False: corrupted whenever indexed; True: kept under the user's cache, computed now
               and memory-mapped from then on; a path: kept there
        Raises ValueError for an unknown name or severity, and for a set with released files.
        """
        if self.released is not None:
            raise ValueError(
                f"{self.name} has released corrupted files; load {self.released.name!r} itself"
            )
        lazy = LazyImages(self.images, self.ids, name, severity, seed)
        lazy[:1]  # a wrong name or severity is told here
        fingerprint = lazy.fingerprint(self.fingerprint)
        images: Any = lazy
        if cache:
            folder = cache_root() / "corrupted" if cache is True else Path(cache)
            images = kept(lazy, folder / f"{self.name}-{self.split}", fingerprint)
        return replace(self, images=images, fingerprint=fingerprint)


def check_split(name: str, split: str, served: Sequence[str]) -> str:
    """`split` with the alias "val" resolved; ValueError when the dataset does not serve it."""
    split = "valid" if split == "val" else split
    if split not in served:
        raise ValueError(f"unknown split {split!r} of {name!r}; it has {', '.join(served)}")
    return split
