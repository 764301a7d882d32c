"""Whether a dataset's files are complete and intact: every file is read, every image decoded.

The sources are what is judged; decoded copies under the user's cache are compared with their
checksums as well. A JPEG carries no checksum: what decodes may still differ from what was
published, except where checksums of files are known (`published.md5`).
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
from tttlib.data.image_files import FileImages
from tttlib.data.imageset import SPLITS, ImageSet
from tttlib.data.lookup import find
from tttlib.runtime.errors import DamagedDataError, MissingDataError
from tttlib.runtime.paths import data_root

_SCENES = 512  # of each split, made on the spot

Loader = Callable[..., ImageSet]


@dataclass(frozen=True)
class Report:
    """The result of a check.

    Attributes
    ----------
    name
        Name of the dataset.
    lines
        Facts, for people: counts, shapes, boxes, checksums.
    missing
        What a complete dataset would have besides; a part may be used as it is.
    problems
        What is damaged, each naming its file, in the order in which it was met.
    counts
        Part ("train", "fog severity 5") -> images of each class, in the order of the labels.
    """

    name: str
    lines: tuple[str, ...]
    missing: tuple[str, ...]
    problems: tuple[str, ...]
    counts: Mapping[str, tuple[int, ...]]


def check(name: str, root: str | Path | None = None, *, progress: bool = True) -> Report:
    """Read every file of a dataset.

    Parameters
    ----------
    name
        One of `tttlib.data.NAMES`.
    root
        The data root; None: $TTTLIB_DATA, else the user's cache.
    progress
        Whether to show progress bars.

    Returns
    -------
    Report
        Damaged files are among its problems.

    Raises
    ------
    ValueError
        For an unknown name.
    MissingDataError
        When nothing of the dataset is there; says where it looked.
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
        images = scenes.load(split, n=_SCENES)
        notes.count(split, images.labels, 10, images.image_size)
        assert images.boxes is not None  # scenes always have them
        notes.boxes(split, images.boxes, images.image_size)
    notes.lines.append(
        "made on the spot from installed photographs and digits; these are the first images"
    )


def _encoded(
    notes: Notes, *, source: Callable[[Path, str, str], decoded.Source], expected: Mapping[str, int]
) -> None:
    """Check sets of encoded images, which `decoded` serves."""
    for split, n in expected.items():
        try:
            one = source(notes.root, split, notes.name)
            classes = len(one.classes())
            copy_problem = decoded.verify(one, split)
        except MissingDataError as error:
            notes.lack(split, error)
        except DamagedDataError as error:
            notes.problems.append(str(error))
            if one.files[0].is_file():  # the rest may be intact
                _rows(notes, split, one, classes, n)
        else:
            if copy_problem:
                notes.lines.append(copy_problem)
            _rows(notes, split, one, classes, n)


def _rows(notes: Notes, split: str, one: decoded.Source, classes: int, n: int) -> None:
    labels: list[int] = []
    boxes: list[tuple[int, int, int, int]] = []

    def rows() -> Iterator[tuple[bytes, int]]:
        for i, (file, label, box) in enumerate(one.rows()):
            labels.append(label)
            if box is not None:
                boxes.append(decoded.exclusive(box))
            yield file, i

    notes.try_all(f"{notes.name} {split}", rows(), one.decode, n)
    at = torch.tensor(labels, dtype=torch.int64)
    legal = (at >= 0) & (at < classes)
    if not legal.all():
        first = int((~legal).nonzero()[0])
        notes.problems.append(
            f"{one.where(first)} has the label {labels[first]}, legal are 0..{classes - 1}"
        )
    notes.count(split, at[legal], classes, one.size, n, one.files[0])
    if boxes:
        notes.boxes(split, torch.tensor(boxes), one.size)
    if boxes and len(boxes) != len(labels):
        notes.problems.append(
            f"{one.files[0]}: {len(labels) - len(boxes):,} images of {split} lack a box"
        )


def _pickles(notes: Notes, *, load: partial[ImageSet], expected: Mapping[str, int]) -> None:
    folder = _folder(notes, load)
    for split, n in expected.items():
        where = folder / ", ".join(load.keywords["parts"][split])
        _part(notes, split, load, split, n, where)
    notes.checksums(folder, load.keywords["folder"])


def _arrays(notes: Notes, *, load: partial[ImageSet], expected: int) -> None:
    """Check CIFAR-10-C and its like: all severities of a corruption are in one file."""
    folder = _folder(notes, load)
    if not (folder / "labels.npy").is_file():
        notes.problems.append(f"{folder / 'labels.npy'} is missing; fetch it again")
        return
    for name in c_options.NAMES:
        where = folder / f"{name}.npy"
        _part(notes, name, load, "test", expected, where, corruption=name)
    notes.checksums(folder, load.keywords["folder"])


def _files(notes: Notes) -> None:
    """Check ImageNet's validation images."""
    load = partial(imagenet.load, name=notes.name)
    if _part(notes, "valid", load, "valid", imagenet.N_IMAGES) is not None:
        _list(notes, imagenet.load, "valid")


def _grid(notes: Notes, *, load: Loader, expected: int, names: tuple[str, ...]) -> None:
    """Check ImageNet-C and its like: a folder for each corruption and severity."""
    first: dict[str, Any] = {}
    for corruption in c_options.NAMES:
        present, lacking = [], []
        for severity in c_options.SEVERITIES:
            part = f"{corruption} severity {severity}"
            option = {"corruption": corruption, "severity": severity}
            try:
                images = load("test", notes.root, **option)
            except MissingDataError as error:
                notes.absent.append(error)
                lacking.append(str(severity))
            except DamagedDataError as error:
                notes.problems.append(str(error))
            else:
                _decode(notes, part, images)
                where = images.images.paths[0].parent.parent
                notes.count(part, images.labels, len(images.classes), None, expected, where)
                present.append(f"{severity} ({len(images):,} images)")
                first = first or option
        if present:
            notes.lines.append(f"{corruption}: severities {', '.join(present)}")
        if lacking and (corruption in names or present):
            all_of = len(lacking) == len(c_options.SEVERITIES)
            notes.missing.append(
                corruption if all_of else f"{corruption}: severities {', '.join(lacking)}"
            )
    if first and load is imagenet_c.load:
        _list(notes, load, "test", **first)


def _list(notes: Notes, load: Loader, split: str, **options: Any) -> None:
    """Check whether the papers' list of 5,000 images is there, and its images are."""
    try:
        images = load(split, notes.root, subset="5000", **options)
    except DamagedDataError as error:
        incomplete = "which is missing" in str(error) and notes.missing
        (notes.missing if incomplete else notes.problems).append(str(error))
        return
    if "5000 list" in images.name:
        notes.lines.append(f"{imagenet.LIST_FILE}: the published list, its images are there")
    else:
        notes.missing.append(
            f'{imagenet.LIST_FILE}: subset "5000" would be the first 5 images of each class, not '
            "the papers' (tttlib data download imagenet-5000-list)"
        )


def _part(
    notes: Notes,
    part: str,
    load: Loader,
    split: str,
    expected: int,
    where: Path | None = None,
    **options: Any,
) -> ImageSet | None:
    """Load, decode and count one part; None if it is missing or damaged."""
    try:
        images = load(split, notes.root, **options)
    except MissingDataError as error:
        notes.lack(part, error)
        return None
    except DamagedDataError as error:
        notes.problems.append(str(error))
        return None
    _decode(notes, part, images)
    where = where or images.images.paths[0].parent
    notes.count(part, images.labels, len(images.classes), images.image_size, expected, where)
    return images


def _decode(notes: Notes, part: str, images: ImageSet) -> None:
    """Decode every image, and read every file again whose content was remembered."""
    files = images.images
    if isinstance(files, FileImages):
        notes.try_all(f"{notes.name} {part}", range(len(files)), files.__getitem__, len(files))
        notes.try_all(part, [""], partial(files.fingerprint, reread=True), None)


def _folder(notes: Notes, load: partial[ImageSet]) -> Path:
    source = f"{ARCHIVES[notes.name][0].url} (tttlib data download {notes.name})"
    return find(notes.name, notes.root, [load.keywords["folder"]], source)


def _same_files(notes: Notes, *, of: str) -> None:
    notes.lines.append(f"the files are those of {of}, which are checked")
    _CHECKS[of](notes)


_TINY = {"train": 100_000, "valid": 10_000}
_CIFAR = {"train": 50_000, "test": 10_000}
_CHECKS: dict[str, Callable[[Notes], None]] = {
    "scenes": _made,
    "tiny-imagenet": partial(_encoded, source=tiny_imagenet.find_source, expected=_TINY),
    "tiny-imagenet-100": partial(_same_files, of="tiny-imagenet"),
    "tiny-imagenet-50": partial(_same_files, of="tiny-imagenet"),
    "cifar10-jpeg": partial(_encoded, source=cifar10_jpeg.find_source, expected=_CIFAR),
    "cifar10": partial(_pickles, load=cifar.load_10, expected=_CIFAR),
    "cifar100": partial(_pickles, load=cifar.load_100, expected=_CIFAR),
    "cifar10-c": partial(_arrays, load=cifar_c.load_10, expected=10_000),
    "cifar100-c": partial(_arrays, load=cifar_c.load_100, expected=10_000),
    "imagenet": _files,
    "imagenet-sample": partial(_same_files, of="imagenet"),
    "imagenet-c": partial(
        _grid, load=imagenet_c.load, expected=imagenet.N_IMAGES, names=c_options.NAMES
    ),
    "tiny-imagenet-c": partial(
        _grid, load=imagenet_c.load_tiny, expected=10_000, names=corruptions.NAMES
    ),
}
