"""Whether a dataset's files are complete and intact: every file is read, every image decoded.

The sources are what is judged; decoded copies under the user's cache are compared with their
checksums as well. A JPEG carries no checksum: what decodes may still differ from what was
published, except where checksums of files are known (`published.md5`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
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
    imagenet_sample,
    scenes,
    tiny_imagenet,
)
from tttlib.data.delivery.archives import ARCHIVES
from tttlib.data.delivery.check_report import Report
from tttlib.data.image_files import FileImages
from tttlib.data.imageset import SPLITS, ImageSet
from tttlib.data.lookup import find
from tttlib.runtime.errors import DamagedDataError
from tttlib.runtime.paths import data_root

_SCENES = 512  # of each split, made on the spot

Loader = Callable[..., ImageSet]
Sources = Callable[[Path, str, str], decoded.Source]


def check(name: str, root: str | Path | None = None) -> Report:
    """Read every file of a dataset.

    Parameters
    ----------
    name
        One of `tttlib.data.NAMES`.
    root
        The data root; None: $TTTLIB_DATA, else the user's cache.

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
    report = Report(name, data_root(root))
    _CHECKS[name](report)
    if report.absent and not report.counts and not report.problems:
        raise report.absent[0]
    return report


def _made(report: Report) -> None:
    for split in SPLITS:
        images = scenes.load(split, n=_SCENES, composition=report.name)
        report.count(split, images.labels, 10, images.image_size)
        assert images.boxes is not None  # scenes always have them
        report.boxes(split, images.boxes, images.image_size)
    report.lines.append(
        "made on the spot from installed photographs and digits; these are the first images"
    )


def _encoded(report: Report, *, source: Sources, expected: Mapping[str, int]) -> None:
    """Check sets of encoded images, which `decoded` serves."""
    for split, n in expected.items():
        with report.reading(split, report.missing):
            before = len(report.problems)
            one = source(report.root, split, report.name)
            _rows(report, split, one, n)
            if len(report.problems) == before:  # the source can be read
                removed = decoded.verify(one, split)
                report.lines += [removed] if removed else []


def _rows(report: Report, split: str, one: decoded.Source, n: int) -> None:
    labels: list[int] = []
    boxes: list[tuple[int, int, int, int]] = []
    classes = len(one.classes())

    def rows() -> Iterator[tuple[bytes, str]]:
        for file, where, label, box in one.rows():
            legal = 0 <= label < classes
            labels.append(label if legal else -1)
            if not legal:
                report.problems.append(f"{where} has the label {label}, legal are 0..{classes - 1}")
            if box is not None:
                boxes.append(decoded.exclusive(box))
            yield file, where

    report.try_all(f"{report.name} {split}", rows(), lambda row: one.decode(*row), n)
    at = torch.tensor(labels, dtype=torch.int64)
    report.count(split, at[at >= 0], classes, one.size, n, one.files[0])
    if boxes:
        report.boxes(split, torch.tensor(boxes), one.size)
    if boxes and len(boxes) != len(labels):
        report.problems.append(
            f"{one.files[0]}: {len(labels) - len(boxes):,} images of {split} lack a box"
        )


def _pickles(report: Report, *, load: partial[ImageSet], expected: Mapping[str, int]) -> None:
    family: cifar.Family = load.keywords["family"]
    folder = _folder(report, family.folder)
    for split, n in expected.items():
        _part(report, split, load, split, n, folder / ", ".join(family.parts[split]))
    report.checksums(folder, family.folder)


def _arrays(report: Report, *, load: partial[ImageSet], expected: int) -> None:
    """Check CIFAR-10-C and its like: all severities of a corruption are in one file."""
    folder = _folder(report, load.keywords["folder"])
    if not (folder / "labels.npy").is_file():
        report.problems.append(f"{folder / 'labels.npy'} is missing; fetch it again")
        return
    for name in c_options.NAMES:
        where = folder / f"{name}.npy"
        _part(report, name, load, "test", expected, where, corruption=name)
    report.checksums(folder, load.keywords["folder"])


def _files(report: Report) -> None:
    """Check ImageNet's validation images."""
    load = partial(imagenet.load, name=report.name)
    if _part(report, "valid", load, "valid", imagenet.N_IMAGES) is not None:
        _list(report, imagenet.load, "valid")


def _photographs(report: Report) -> None:
    """Check the sample of one photograph a class."""
    if (report.root / imagenet_sample.FILE).is_file():
        _encoded(report, source=imagenet_sample.find_source, expected={"valid": 1000})
    else:
        _part(report, "valid", imagenet_sample.load, "valid", 1000)


def _sample(report: Report) -> None:
    """Check what `imagenet-sample` would serve."""
    whole = any((report.root / place).is_dir() for place in imagenet.FOLDERS)
    photographs = not whole and imagenet_sample.is_there(report.root)
    _same_files(report, of="imagenet-1000" if photographs else "imagenet")


def _grid(report: Report, *, load: Loader, expected: int, names: tuple[str, ...]) -> None:
    """Check ImageNet-C and its like: a folder for each corruption and severity."""
    first: dict[str, Any] = {}
    for corruption in c_options.NAMES:
        present: list[str] = []
        lacking: list[str] = []
        for severity in c_options.SEVERITIES:
            part = f"{corruption} severity {severity}"
            option = {"corruption": corruption, "severity": severity}
            with report.reading(str(severity), lacking):
                images = load("test", report.root, **option)
                _decode(report, part, images)
                where = images.images.paths[0].parent.parent
                report.count(part, images.labels, len(images.classes), None, expected, where)
                present.append(f"{severity} ({len(images):,} images)")
                first = first or option
        if present:
            report.lines.append(f"{corruption}: severities {', '.join(present)}")
        if lacking and (corruption in names or present):
            all_of = len(lacking) == len(c_options.SEVERITIES)
            which = "" if all_of else f": severities {', '.join(lacking)}"
            report.missing.append(corruption + which)
    if first and load is imagenet_c.load:
        _list(report, load, "test", **first)


def _list(report: Report, load: Loader, split: str, **options: Any) -> None:
    """Check whether the papers' list of 5,000 images is there, and its images are."""
    try:
        images = load(split, report.root, subset="5000", **options)
    except DamagedDataError as error:
        incomplete = "which is missing" in str(error) and report.missing
        (report.missing if incomplete else report.problems).append(str(error))
        return
    if "5000 list" in images.name:
        report.lines.append(f"{imagenet.LIST_FILE}: the published list, its images are there")
    else:
        report.missing.append(
            f'{imagenet.LIST_FILE}: subset "5000" would be the first 5 images of each class, not '
            "the papers' (tttlib data download imagenet-5000-list)"
        )


def _part(
    report: Report,
    part: str,
    load: Loader,
    split: str,
    expected: int,
    where: Path | None = None,
    **options: Any,
) -> ImageSet | None:
    """Load, decode and count one part; None if it is missing or damaged."""
    with report.reading(part, report.missing):
        images = load(split, report.root, **options)
        _decode(report, part, images)
        where = where or images.images.paths[0].parent
        report.count(part, images.labels, len(images.classes), images.image_size, expected, where)
        return images
    return None


def _decode(report: Report, part: str, images: ImageSet) -> None:
    """Decode every image, and read every file again whose content was remembered."""
    files = images.images
    if isinstance(files, FileImages):
        report.try_all(f"{report.name} {part}", range(len(files)), files.__getitem__, len(files))
        files.fingerprint(part, reread=True)


def _folder(report: Report, name: str) -> Path:
    source = f"{ARCHIVES[report.name][0].url} (tttlib data download {report.name})"
    return find(report.name, report.root, [name], source)


def _same_files(report: Report, *, of: str) -> None:
    report.lines.append(f"the files are those of {of}, which are checked")
    _CHECKS[of](report)


_TINY = {"train": 100_000, "valid": 10_000}
_CIFAR = {"train": 50_000, "test": 10_000}
_CHECKS: dict[str, Callable[[Report], None]] = {
    "scenes": _made,
    "scenes-calm": _made,
    "tiny-imagenet": partial(_encoded, source=tiny_imagenet.find_source, expected=_TINY),
    "tiny-imagenet-100": partial(_same_files, of="tiny-imagenet"),
    "tiny-imagenet-50": partial(_same_files, of="tiny-imagenet"),
    "cifar10-jpeg": partial(_encoded, source=cifar10_jpeg.find_source, expected=_CIFAR),
    "cifar10": partial(_pickles, load=cifar.load_10, expected=_CIFAR),
    "cifar100": partial(_pickles, load=cifar.load_100, expected=_CIFAR),
    "cifar10-c": partial(_arrays, load=cifar_c.load_10, expected=10_000),
    "cifar100-c": partial(_arrays, load=cifar_c.load_100, expected=10_000),
    "imagenet": _files,
    "imagenet-sample": _sample,
    "imagenet-1000": _photographs,
    "imagenet-c": partial(
        _grid, load=imagenet_c.load, expected=imagenet.N_IMAGES, names=c_options.NAMES
    ),
    "tiny-imagenet-c": partial(
        _grid, load=imagenet_c.load_tiny, expected=10_000, names=corruptions.NAMES
    ),
}
