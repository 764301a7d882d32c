"""What a check of a dataset notes down while it reads: counts, boxes, checksums, problems."""

from __future__ import annotations

from collections.abc import Callable, Iterable
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
from tttlib.data.delivery.checksums import PUBLISHED
from tttlib.data.image_files import DECODERS
from tttlib.data.imageset import DamagedDataError, MissingDataError
from tttlib.data.lookup import unreadable

_AT_ONCE = 1024  # images

T = TypeVar("T")


def box_counts(boxes: Tensor, width: int, height: int) -> dict[str, int]:
    """How many of the boxes [N,4] (xmin, ymin, xmax, ymax, maxima exclusive) are odd.

    no_area      at most one pixel wide or high: the inclusive corners of the files fall together,
                 or are in the wrong order
    outside      reach out of the image of width x height pixels
    whole_image  cover all of it
    """
    whole = (boxes[:, :2] <= 0).all(1) & (boxes[:, 2] >= width) & (boxes[:, 3] >= height)
    return {
        "boxes": len(boxes),
        "no_area": int(degenerate(boxes, least_side=1).sum()),
        "outside": int(out_of_range(boxes, height, width).sum()),
        "whole_image": int(whole.sum()),
    }


@dataclass
class Notes:
    """A report in the making."""

    name: str
    root: Path
    progress: bool
    lines: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    absent: list[MissingDataError] = field(default_factory=list)
    counts: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def try_all(
        self, what: str, items: Iterable[T], use: Callable[[T], object], n: int | None
    ) -> None:
        """`use` every item on all cores; what a DamagedDataError says becomes a problem.

        When `items` itself raises one, the rest of them cannot be read.
        """

        def attempt(item: T) -> str | None:
            try:
                use(item)
            except DamagedDataError as error:
                return str(error)
            except OSError as error:
                return str(unreadable(Path(error.filename or what), error))
            return None

        rest = iter(items)
        bar = tqdm(total=n, desc=what, unit="image", disable=not self.progress)
        with bar, ThreadPoolExecutor(DECODERS) as pool:
            while True:
                chunk: list[T] = []
                try:
                    chunk.extend(islice(rest, _AT_ONCE))
                    ended = len(chunk) < _AT_ONCE
                except (DamagedDataError, OSError) as error:
                    self.problems.append(f"{error} (nothing behind it was read)")
                    ended = True
                self.problems += [said for said in pool.map(attempt, chunk) if said]
                bar.update(len(chunk))
                if ended:
                    return

    def count(
        self, part: str, labels: Tensor, classes: int, expected: int, where: object
    ) -> tuple[int, ...]:
        """Note the images of each class; compare with what is published (`expected` in all).

        labels  int64 [N]
        """
        counts = tuple(torch.bincount(labels, minlength=classes).tolist())
        self.counts[part] = counts
        n, each = sum(counts), expected // classes
        if n == 0:
            self.problems.append(f"{where}: no readable images of {part}")
        elif n < expected:
            self.missing.append(f"{part}: {n:,} of {expected:,} images are there")
        elif n > expected:
            self.problems.append(
                f"{where}: {n:,} images of {part}, where {expected:,} are published"
            )
        elif any(count != each for count in counts):
            odd = next(i for i, count in enumerate(counts) if count != each)
            self.problems.append(
                f"{where}: {counts[odd]} images of class {odd} in {part}, where {each} are "
                "published"
            )
        return counts

    def tell(self, part: str, size: int, counts: tuple[int, ...]) -> None:
        few, many = min(counts), max(counts)
        spread = f"{few:,}" if few == many else f"{few:,} to {many:,}"
        self.lines.append(
            f"{part}: {sum(counts):,} images, uint8 [3,{size},{size}], {len(counts)} classes, "
            f"{spread} images each"
        )

    def boxes(self, part: str, boxes: Tensor, size: int) -> None:
        """Note how many of the boxes [N,4] are odd, see `box_counts`."""
        found = box_counts(boxes, size, size)
        n, whole = found["boxes"], found["whole_image"]
        self.lines.append(
            f"{part}: {n:,} boxes, {found['no_area']:,} without area, {found['outside']:,} reach "
            f"out of the image, {whole:,} ({whole / max(n, 1):.1%}) cover all of it"
        )

    def checksums(self, folder: Path, files: Iterable[str], published: str) -> None:
        """Compare files with their published checksums, unless they were said to be damaged."""
        if (folder / "made.json").is_file():
            self.lines.append(f"{folder} was made by tttlib: no checksums are published")
            return
        right = 0
        for file in files:
            path, known = folder / file, PUBLISHED[published][file]
            if not path.is_file() or any(said.startswith(str(path)) for said in self.problems):
                continue
            algorithm, digest = known.split(":")
            try:
                found = pooch.file_hash(str(path), algorithm)
            except OSError as error:
                self.problems.append(str(unreadable(path, error)))
                continue
            if found == digest:
                right += 1
            else:
                self.problems.append(
                    f"{path} is not the published file: its {algorithm} is {found}, published is "
                    f"{digest}; fetch it again"
                )
        self.lines.append(f"{right} files have their published checksums")
