"""The one record that every dataset is served as."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tttlib.data.corrupted import LazyImages, kept
from tttlib.data.lazy import CorruptedFiles, positions, take
from tttlib.runtime.paths import cache_root

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class ImageSet:
    """Labelled images of one split of one dataset. Columns may be given as NumPy arrays.

    Attributes
    ----------
    name, split
        Which dataset and which of its splits.
    images
        uint8 [N,3,H,W], RGB: a tensor, possibly memory-mapped, or `Lazy` images, which are indexed
        like one.
    labels
        int64 [N], indices into `classes`.
    classes
        Names of the C classes, in the order of the label indices.
    ids
        int64 [N], the lasting identity of each image (survives `subset`); seeds corruptions.
    fingerprint
        Identifies the source's bytes (and, for generated sets, the generator's version).
    boxes
        float32 [N,4] or None: xmin, ymin, xmax, ymax in pixels, maxima exclusive.
    clusters
        name -> int64 [N]: what makes images dependent (clustered bootstrap); may be empty.
    populations
        What intervals can speak of, the usual one first: name -> names of `clusters` that count as
        drawn at random. Empty: all clusters do.
    released
        None: corruptions are made here; otherwise where corrupted images are looked up.

    Raises
    ------
    ValueError
        For images of another kind, columns of another length, and labels that are no index into
        `classes`.
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
    populations: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    released: CorruptedFiles | None = None

    def __post_init__(self) -> None:
        for name in ("images", "labels", "ids", "boxes"):
            if isinstance(getattr(self, name), np.ndarray | list | tuple):
                object.__setattr__(self, name, torch.as_tensor(np.asarray(getattr(self, name))))
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
        if self.labels.ndim != 1 or self.labels.is_floating_point():
            raise ValueError(
                f"labels of {self.name!r} must be whole numbers [N], "
                f"got {self.labels.dtype} {tuple(self.labels.shape)}"
            )
        object.__setattr__(self, "labels", self.labels.long())
        least, most = (int(edge) for edge in self.labels.aminmax()) if n else (0, -1)
        if least < 0 or most >= len(self.classes):
            raise ValueError(
                f"labels of {self.name!r} run from {least} to {most}, but its {len(self.classes)} "
                f"classes are numbered 0..{len(self.classes) - 1}; number the labels from 0 and "
                "name every class"
            )

    def __len__(self) -> int:
        return len(self.images)

    @property
    def image_size(self) -> int:
        """Height (= width) in pixels."""
        return int(self.images.shape[-1])

    def factors(self, population: str = "") -> tuple[str, ...]:
        """Return the names of `clusters` over which intervals go, for one of `populations`.

        Without a name it is the first one. Raises ValueError for an unknown name.
        """
        known = self.populations or {"images": tuple(self.clusters)}
        if population and population not in known:
            raise ValueError(
                f"no population {population!r} of {self.name!r}; known are {', '.join(known)}"
            )
        return known[population or next(iter(known))]

    def subset(self, index: Tensor | Sequence[int] | np.ndarray) -> ImageSet:
        """Return the images at `index` (positions [M] or truth values [N]) in that order.

        Every image keeps its id. Raises IndexError for a position outside the set.
        """
        where = positions(index, len(self)).reshape(-1)
        return replace(
            self,
            images=take(self.images, where),
            labels=self.labels[where],
            ids=self.ids[where],
            boxes=None if self.boxes is None else self.boxes[where],
            clusters={k: v[where] for k, v in self.clusters.items()},
        )

    def sample(self, n: int, seed: int = 0, *, skip: int = 0) -> ImageSet:
        """Draw `n` images without replacement: positions skip … skip+n of a seeded shuffle.

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
        """Return only the images of these label indices; labels and classes stay as they are."""
        return self.subset(torch.isin(self.labels, torch.as_tensor(list(labels))))

    def corrupted(
        self, name: str, severity: float, *, seed: int = 0, cache: bool | str | Path = False
    ) -> ImageSet:
        """Return the same set under a corruption, made image by image on demand.

        Parameters
        ----------
        name, severity, seed
            As in `tttlib.corruptions.corrupt`.
        cache
            False: corrupted whenever indexed. True: computed now, kept under the user's cache and
            memory-mapped from then on. A path: kept there.

        Raises
        ------
        ValueError
            For an unknown name or severity, and for a set with released files.
        """
        if self.released is not None:
            raise ValueError(
                f"{self.name} has released corrupted files; load {self.released.name!r} itself"
            )
        lazy = LazyImages(self.images, self.ids, name, severity, seed)
        lazy[:1]  # a wrong name or severity fails here
        fingerprint = lazy.fingerprint(self.fingerprint)
        images: Any = lazy
        if cache:
            folder = cache_root() / "corrupted" if cache is True else Path(cache)
            images = kept(lazy, folder / f"{self.name}-{self.split}", fingerprint)
        return replace(self, images=images, fingerprint=fingerprint)


def check_split(name: str, split: str, served: Sequence[str]) -> str:
    """Return `split` with the alias "val" resolved; ValueError when `name` does not serve it."""
    split = "valid" if split == "val" else split
    if split not in served:
        raise ValueError(f"unknown split {split!r} of {name!r}; it has {', '.join(served)}")
    return split
