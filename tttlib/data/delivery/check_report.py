"""The report of a dataset's check: counts, boxes, checksums, problems."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TypeVar

import pooch
import torch
from torch import Tensor
from tqdm.auto import tqdm

from tttlib.boxes import degenerate, out_of_range
from tttlib.data.contents import READERS
from tttlib.data.delivery.archives import PUBLISHED
from tttlib.runtime.errors import DamagedDataError, MissingDataError, unreadable

_AT_ONCE = 1024  # images

T = TypeVar("T")


@dataclass
class Report:
    """The result of a check, or what is known of it so far.

    Attributes
    ----------
    name, root
        Name of the dataset, and the data root.
    lines
        Facts, for people: counts, shapes, boxes, checksums.
    missing
        What a complete dataset would have besides; a part may be used as it is.
    problems
        What is damaged, each naming its file, in the order in which it was met.
    absent
        The errors behind `missing`.
    counts
        Part ("train", "fog severity 5") -> images of each class, in the order of the labels.
    """

    name: str
    root: Path
    lines: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    absent: list[MissingDataError] = field(default_factory=list)
    counts: dict[str, tuple[int, ...]] = field(default_factory=dict)

    @contextlib.contextmanager
    def reading(self, part: str, missing: list[str]) -> Iterator[None]:
        """Go on behind the block when its part is missing (then it joins `missing`) or damaged."""
        try:
            yield
        except MissingDataError as error:
            self.absent.append(error)
            missing.append(part)
        except (DamagedDataError, OSError) as error:
            self.problems.append(_said(error, part))

    def try_all(
        self, what: str, items: Iterable[T], use: Callable[[T], object], n: int | None
    ) -> None:
        """Call `use` for every item on all cores; what a DamagedDataError says becomes a problem.

        When `items` itself raises one, the rest of them cannot be read. `what` and `n` are title
        and length of the progress bar.
        """

        def attempt(item: T) -> str:
            try:
                use(item)
            except (DamagedDataError, OSError) as error:
                return _said(error, what)
            return ""

        rest = iter(items)
        bar = tqdm(total=n, desc=what, unit="image")
        with bar, ThreadPoolExecutor(READERS) as pool:
            while True:
                chunk: list[T] = []
                try:
                    chunk.extend(islice(rest, _AT_ONCE))
                    ended = len(chunk) < _AT_ONCE
                except (DamagedDataError, OSError) as error:
                    self.problems.append(f"{error} (nothing behind it was read)")
                    ended = True
                self.problems += [problem for problem in pool.map(attempt, chunk) if problem]
                bar.update(len(chunk))
                if ended:
                    return

    def count(
        self,
        part: str,
        labels: Tensor,
        classes: int,
        size: int | None = None,
        expected: int | None = None,
        where: object = None,
    ) -> None:
        """Note the images of each class and compare their number with what is published.

        Parameters
        ----------
        part
            What the images are of their dataset.
        labels
            int64 [N], each below `classes`.
        classes
            Number of classes.
        size
            Side of an image in pixels; None: no line is noted.
        expected
            Number of images published, equally many of each class; None: not compared.
        where
            File or folder to name in problems.
        """
        counts = tuple(torch.bincount(labels, minlength=classes).tolist())
        self.counts[part] = counts
        n, few, many = sum(counts), min(counts), max(counts)
        if size is not None:
            spread = f"{few:,}" if few == many else f"{few:,} to {many:,}"
            self.lines.append(
                f"{part}: {n:,} images, uint8 [3,{size},{size}], {classes} classes, {spread} "
                "images each"
            )
        if expected is None:
            return
        each = expected // classes
        if n == 0:
            self.problems.append(f"{where}: no readable images of {part}")
        elif n < expected:
            self.missing.append(f"{part}: {n:,} of {expected:,} images are there")
        elif n > expected or few != many:
            found, published = f"{n:,} images of {part}", expected
            if n == expected:
                odd = next(i for i, count in enumerate(counts) if count != each)
                found, published = f"{counts[odd]} images of class {odd} in {part}", each
            self.problems.append(f"{where}: {found}, where {published:,} are published")

    def boxes(self, part: str, boxes: Tensor, size: int) -> None:
        """Note how many of the boxes [N,4] (xyxy, maxima exclusive) are odd.

        Those without area are at most one pixel wide or high: the inclusive corners of the files
        fall together or are in the wrong order.
        """
        whole = int(((boxes[:, :2] <= 0) & (boxes[:, 2:] >= size)).all(1).sum())
        self.lines.append(
            f"{part}: {len(boxes):,} boxes, {degenerate(boxes, least_side=1).sum():,} without "
            f"area, {out_of_range(boxes, size, size).sum():,} reach out of the image, {whole:,} "
            f"({whole / max(len(boxes), 1):.1%}) cover all of it"
        )

    def checksums(self, folder: Path, published: str) -> None:
        """Compare files with their published checksums, unless they were noted as damaged."""
        if (folder / "made.json").is_file():
            self.lines.append(f"{folder} was made by tttlib: no checksums are published")
            return
        right = 0
        for file, digest in PUBLISHED[published].items():
            path = folder / file
            if not path.is_file() or any(text.startswith(str(path)) for text in self.problems):
                continue
            with self.reading(str(path), self.missing):
                actual = pooch.file_hash(str(path), "md5")
                right += actual == digest
                if actual != digest:
                    self.problems.append(
                        f"{path} is not the published file: its md5 is {actual}, published is "
                        f"{digest}; fetch it again"
                    )
        self.lines.append(f"{right} files have their published checksums")


def _said(error: Exception, what: str) -> str:
    """Return what is wrong, of an error that the system raised as well."""
    if isinstance(error, OSError):
        error = unreadable(Path(error.filename or what), error)
    return str(error)
