"""Whether a dataset's files are complete and intact: every file is read, every image decoded.

The sources are read, never the decoded copies under the user's cache. A JPEG carries no checksum:
what decodes may still differ from what was published, except where checksums of files are known
(see `checksums`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

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
from tttlib.data.delivery.archives import ARCHIVES
from tttlib.data.delivery.check_notes import Notes
from tttlib.data.delivery.checksums import PUBLISHED
from tttlib.data.imageset import SPLITS, DamagedDataError, ImageSet, MissingDataError, data_root
from tttlib.data.lookup import find

_SCENES = 512  # of each split, made on the spot

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
    notes = Notes(name, data_root(root), progress)
    _CHECKS[name](notes)
    if notes.absent and not notes.counts and not notes.problems:
        raise notes.absent[0]
    lines, missing, problems = tuple(notes.lines), tuple(notes.missing), tuple(notes.problems)
    return Report(name, lines, missing, problems, notes.counts)


def _made(notes: Notes) -> None:
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
    notes: Notes,
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


def _pickles(notes: Notes, *, load: partial[ImageSet], expected: Mapping[str, int]) -> None:
    folder = _folder(notes, load)
    for split, n in expected.items():
        found = _loaded(notes, split, load, split)
        if found is not None:
            files = ", ".join(load.keywords["parts"][split])
            counts = notes.count(split, found.labels, len(found.classes), n, folder / files)
            notes.tell(split, found.image_size, counts)
    listed = PUBLISHED[load.keywords["folder"]]
    notes.checksums(folder, listed, load.keywords["folder"])


def _arrays(notes: Notes, *, load: partial[ImageSet], expected: int) -> None:
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


def _files(notes: Notes, *, of: str = "") -> None:
    """ImageNet's validation images."""
    if of:
        notes.lines.append(f"the files are those of {of}, which are checked")
    found = _loaded(notes, "valid", imagenet.load, "valid", name=notes.name)
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


def _grid(notes: Notes, *, load: Loader, expected: int, names: tuple[str, ...]) -> None:
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


def _list(notes: Notes, load: Loader, split: str, **options: Any) -> None:
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


def _decode_files(notes: Notes, part: str, found: ImageSet) -> None:
    images = found.images
    notes.try_all(f"{notes.name} {part}", range(len(images)), images.__getitem__, len(images))


def _folder(notes: Notes, load: partial[ImageSet]) -> Path:
    source = f"{ARCHIVES[notes.name][0].url} (tttlib data download {notes.name})"
    return find(notes.name, notes.root, [load.keywords["folder"]], source)


def _loaded(notes: Notes, part: str, load: Loader, split: str, **options: Any) -> ImageSet | None:
    try:
        return load(split, notes.root, **options)
    except MissingDataError as error:
        _absent(notes, part, error)
    except DamagedDataError as error:
        notes.problems.append(str(error))
    return None


def _absent(notes: Notes, part: str, error: MissingDataError) -> None:
    notes.absent.append(error)
    notes.missing.append(part)


_TINY = {"train": 100_000, "valid": 10_000}
_CIFAR = {"train": 50_000, "test": 10_000}
_tiny = partial(_encoded, source=tiny_imagenet.find_source, expected=_TINY)
_CHECKS: dict[str, Callable[[Notes], None]] = {
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
    "imagenet-sample": partial(_files, of="imagenet"),
    "imagenet-c": partial(
        _grid, load=imagenet_c.load, expected=imagenet.N_IMAGES, names=c_options.NAMES
    ),
    "tiny-imagenet-c": partial(
        _grid, load=imagenet_c.load_tiny, expected=10_000, names=corruptions.NAMES
    ),
}
