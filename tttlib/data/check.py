"""Whether a dataset's files are complete and intact: every file is read, every image decoded.

The sources are read, never the decoded copies under the user's cache. A JPEG carries no checksum:
what decodes may still differ from what was published, except where checksums of files are known
(see `checksums`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import pooch
import torch
from torch import Tensor
from tqdm.auto import tqdm

from tttlib import corruptions
from tttlib.data import (
    c_options,
    cifar,
    cifar10_jpeg,
    cifar_c,
    decoded,
    imagenet,
    imagenet_c,
    scenes,
    tiny_imagenet,
)
from tttlib.data.archives import ARCHIVES
from tttlib.data.checksums import PUBLISHED
from tttlib.data.files import DECODERS
from tttlib.data.imageset import SPLITS, DamagedDataError, ImageSet, MissingDataError, data_root
from tttlib.data.lookup import find, unreadable

_AT_ONCE = 1024  # images
_SCENES = 512  # of each split, made on the spot

T = TypeVar("T")
Loader = Callable[..., ImageSet]


@dataclass(frozen=True)
class Report:
    """What `check` found.

    lines     facts, for people: counts, shapes, boxes, checksums
    missing   what a complete dataset would have besides; a part may be used as it is
    problems  what is damaged, each naming its file; the first is the first met
    counts    part ("train", "fog severity 5") -> images of each class, in the order of the labels
    """

    name: str
    lines: tuple[str, ...]
    missing: tuple[str, ...]
    problems: tuple[str, ...]
    counts: Mapping[str, tuple[int, ...]]


def check(name: str, root: str | Path | None = None, *, progress: bool = True) -> Report:
    """Read every file of the dataset `name` under `root` (else $TTTLIB_DATA, else the cache).

    Damaged files end up in the report. Raises ValueError for an unknown name and MissingDataError
    (says where it looked) when nothing of the dataset is there.
    """
    if name not in _CHECKS:
        raise ValueError(f"unknown dataset {name!r}; known are {', '.join(_CHECKS)}")
    notes = _Notes(name, data_root(root), progress)
    _CHECKS[name](notes)
    if notes.absent and not notes.counts and not notes.problems:
        raise notes.absent[0]
    lines, missing, problems = tuple(notes.lines), tuple(notes.missing), tuple(notes.problems)
    return Report(name, lines, missing, problems, notes.counts)


def box_counts(boxes: Tensor, width: int, height: int) -> dict[str, int]:
    """How many of the boxes [N,4] (xmin, ymin, xmax, ymax, maxima exclusive) are odd.

    no_area      at most one pixel wide or high: the inclusive corners of the files fall together,
                 or are in the wrong order
    outside      reach out of the image of width x height pixels
    whole_image  cover all of it
    """
    x1, y1, x2, y2 = boxes.unbind(1)
    return {
        "boxes": len(boxes),
        "no_area": int(((x2 - x1 <= 1) | (y2 - y1 <= 1)).sum()),
        "outside": int(((x1 < 0) | (y1 < 0) | (x2 > width) | (y2 > height)).sum()),
        "whole_image": int(((x1 <= 0) & (y1 <= 0) & (x2 >= width) & (y2 >= height)).sum()),
    }


@dataclass
class _Notes:
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
        """Note the images of each class; compare with what is published (`expected` in all)."""
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


def _made(notes: _Notes) -> None:
    for split in SPLITS:
        made = scenes.load(split, n=_SCENES)
        notes.counts[split] = tuple(torch.bincount(made.labels, minlength=10).tolist())
        notes.tell(split, made.image_size, notes.counts[split])
        assert made.boxes is not None  # scenes always have them
        notes.boxes(split, made.boxes, made.image_size)
    notes.lines.append(
        "made on the spot from installed photographs and digits; these are the first images"
    )


def _encoded(
    notes: _Notes,
    *,
    source: Callable[[Path, str, str], decoded.Source],
    expected: Mapping[str, int],
    of: str = "",
) -> None:
    """Sets of encoded images in a few files, which `decoded` serves."""
    if of:
        notes.lines.append(f"the files are those of {of}, which are checked")
    for split, n in expected.items():
        try:
            one = source(notes.root, split, notes.name)
            classes = len(one.classes())
        except MissingDataError as error:
            _absent(notes, split, error)
            continue
        except DamagedDataError as error:
            notes.problems.append(str(error))
            continue
        labels: list[int] = []
        boxes: list[tuple[int, int, int, int]] = []

        def rows(
            one: decoded.Source = one,
            labels: list[int] = labels,
            boxes: list[tuple[int, int, int, int]] = boxes,
        ) -> Iterator[tuple[bytes, int]]:
            for i, (file, label, box) in enumerate(one.rows()):
                labels.append(label)
                if box is not None:
                    boxes.append((box[0], box[1], box[2] + 1, box[3] + 1))
                yield file, i

        def decode(row: tuple[bytes, int], one: decoded.Source = one) -> None:
            decoded.pixels(*row, one)

        notes.try_all(f"{notes.name} {split}", rows(), decode, n)
        at = torch.tensor(labels, dtype=torch.int64)
        legal = (at >= 0) & (at < classes)
        if not legal.all():
            first = int((~legal).nonzero()[0])
            notes.problems.append(
                f"{one.where(first)} has the label {labels[first]}, legal are 0..{classes - 1}"
            )
        notes.tell(split, one.size, notes.count(split, at[legal], classes, n, one.files[0]))
        if boxes:
            notes.boxes(split, torch.tensor(boxes), one.size)
        if boxes and len(boxes) != len(labels):
            notes.problems.append(
                f"{one.files[0]}: {len(labels) - len(boxes):,} images of {split} lack a box"
            )


def _pickles(notes: _Notes, *, load: partial[ImageSet], expected: Mapping[str, int]) -> None:
    folder = _folder(notes, load)
    for split, n in expected.items():
        found = _loaded(notes, split, load, split)
        if found is not None:
            files = ", ".join(load.keywords["parts"][split])
            counts = notes.count(split, found.labels, len(found.classes), n, folder / files)
            notes.tell(split, found.image_size, counts)
    listed = PUBLISHED[load.keywords["folder"]]
    notes.checksums(folder, listed, load.keywords["folder"])


def _arrays(notes: _Notes, *, load: partial[ImageSet], expected: int) -> None:
    """CIFAR-10-C and its like: all severities of a corruption are in one file."""
    published, folder = load.keywords["folder"], _folder(notes, load)
    if not (folder / "labels.npy").is_file():
        notes.problems.append(f"{folder / 'labels.npy'} is missing; fetch it again")
        return
    whole = []
    for corruption in c_options.NAMES:
        found = _loaded(notes, corruption, load, "test", corruption=corruption)
        if found is not None:
            n, where = len(found.classes), folder / f"{corruption}.npy"
            counts = notes.count(corruption, found.labels, n, expected, where)
            whole.append(f"{corruption} (5 severities of {sum(counts):,} images)")
    notes.lines.append(f"corruptions: {', '.join(whole) or 'none'}")
    notes.checksums(folder, PUBLISHED[published], published)


def _files(notes: _Notes) -> None:
    """ImageNet's validation images."""
    found = _loaded(notes, "valid", imagenet.load, "valid")
    if found is None:
        return
    _decode_files(notes, "valid", found)
    where = found.images.paths[0].parent
    n = imagenet.N_IMAGES
    counts = notes.count("valid", found.labels, len(found.classes), n, where)
    notes.lines.append(
        f"valid: {len(found):,} images, {len(counts)} classes, {min(counts)} to {max(counts)} "
        "images each"
    )
    _list(notes, imagenet.load, "valid")


def _grid(notes: _Notes, *, load: Loader, expected: int, names: tuple[str, ...]) -> None:
    """ImageNet-C and its like: a folder for each corruption and severity."""
    present = []
    for corruption in c_options.NAMES:
        told = []
        lacking = []
        for severity in c_options.SEVERITIES:
            part = f"{corruption} severity {severity}"
            option = {"corruption": corruption, "severity": severity}
            try:
                found = load("test", notes.root, **option)
            except MissingDataError as error:
                notes.absent.append(error)
                lacking.append(str(severity))
                continue
            except DamagedDataError as error:
                notes.problems.append(str(error))
                continue
            _decode_files(notes, part, found)
            where = found.images.paths[0].parent.parent
            notes.count(part, found.labels, len(found.classes), expected, where)
            told.append(f"{severity} ({len(found):,} images)")
            present.append(option)
        if told:
            notes.lines.append(f"{corruption}: severities {', '.join(told)}")
        if lacking and (corruption in names or told):
            all_of = len(lacking) == len(c_options.SEVERITIES)
            notes.missing.append(
                corruption if all_of else f"{corruption}: severities {', '.join(lacking)}"
            )
    if present and load is imagenet_c.load:
        _list(notes, load, "test", **present[0])


def _list(notes: _Notes, load: Loader, split: str, **options: Any) -> None:
    """Whether the papers' list of 5,000 images is there, and its images are."""
    try:
        found = load(split, notes.root, subset="5000", **options)
    except DamagedDataError as error:
        incomplete = "which is missing" in str(error) and notes.missing
        (notes.missing if incomplete else notes.problems).append(str(error))
        return
    if "5000 list" in found.name:
        notes.lines.append(f"{imagenet.LIST_FILE}: the published list, its images are there")
    else:
        notes.missing.append(
            f'{imagenet.LIST_FILE}: subset "5000" would be the first 5 images of each class, not '
            "the papers' (tttlib data download imagenet-5000-list)"
        )


def _decode_files(notes: _Notes, part: str, found: ImageSet) -> None:
    images = found.images
    notes.try_all(f"{notes.name} {part}", range(len(images)), images.__getitem__, len(images))


def _folder(notes: _Notes, load: partial[ImageSet]) -> Path:
    source = f"{ARCHIVES[notes.name][0].url} (tttlib data download {notes.name})"
    return find(notes.name, notes.root, [load.keywords["folder"]], source)


def _loaded(notes: _Notes, part: str, load: Loader, split: str, **options: Any) -> ImageSet | None:
    try:
        return load(split, notes.root, **options)
    except MissingDataError as error:
        _absent(notes, part, error)
    except DamagedDataError as error:
        notes.problems.append(str(error))
    return None


def _absent(notes: _Notes, part: str, error: MissingDataError) -> None:
    notes.absent.append(error)
    notes.missing.append(part)


_TINY = {"train": 100_000, "valid": 10_000}
_CIFAR = {"train": 50_000, "test": 10_000}
_tiny = partial(_encoded, source=tiny_imagenet.find_source, expected=_TINY)
_CHECKS: dict[str, Callable[[_Notes], None]] = {
    "scenes": _made,
    "tiny-imagenet": _tiny,
    "tiny-imagenet-100": partial(_tiny, of="tiny-imagenet"),
    "tiny-imagenet-50": partial(_tiny, of="tiny-imagenet"),
    "cifar10-jpeg": partial(_encoded, source=cifar10_jpeg.find_source, expected=_CIFAR),
    "cifar10": partial(_pickles, load=cifar.load_10, expected=_CIFAR),
    "cifar100": partial(_pickles, load=cifar.load_100, expected=_CIFAR),
    "cifar10-c": partial(_arrays, load=cifar_c.load_10, expected=10_000),
    "cifar100-c": partial(_arrays, load=cifar_c.load_100, expected=10_000),
    "imagenet": _files,
    "imagenet-c": partial(
        _grid, load=imagenet_c.load, expected=imagenet.N_IMAGES, names=c_options.NAMES
    ),
    "tiny-imagenet-c": partial(
        _grid, load=imagenet_c.load_tiny, expected=10_000, names=corruptions.NAMES
    ),
}
