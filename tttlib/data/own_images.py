"""Image sets of one's own: class folders, and parquet files in the hub's layout."""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tttlib.data import class_folders, decoded, hub, rgb
from tttlib.data.imageset import SPLITS, ImageSet, check_split
from tttlib.data.lookup import listing
from tttlib.runtime import text
from tttlib.runtime.errors import DamagedDataError, MissingDataError

_SPLIT_FOLDERS = {
    "train": "train", "training": "train", "valid": "valid", "val": "valid",
    "validation": "valid", "test": "test", "testing": "test",
}  # fmt: skip


def folder(
    path: str | Path,
    *,
    classes: Sequence[str] | None = None,
    size: int | None = None,
    preprocess: str = "to_tensor",
) -> ImageSet:
    """Load the images below `path/<class>/`; they are decoded when indexed, upright.

    In the notebooks: `dataset = "folder:PATH"`.

    Parameters
    ----------
    path
        Folder with one sub-folder per class.
    classes
        Names of the sub-folders in the order of a model's outputs. None: the lines of
        `path/classes.txt`, or else the names of all sub-folders, sorted; numbers in their order.
        The splits of a set (`train`, `val` …) beside each other have one list.
    size
        Side of every image in pixels; None: that of the first image.
    preprocess
        One of `tttlib.boxes.PREPROCESS`; resize256-… is needed where sizes differ.

    Raises
    ------
    MissingDataError
        For a path that is no folder.
    DamagedDataError
        For images that cannot be served, naming the file.
    ValueError
        For options that do not fit, and where labels would have to be guessed: folders that are
        numbers with gaps, or splits where classes are expected.
    """
    path = Path(path).expanduser()
    if not path.is_dir():
        raise MissingDataError(f"{path} is no folder; give one that has a sub-folder per class")
    parts = _splits(path)
    if parts:
        raise ValueError(
            f"{path} holds the splits {', '.join(parts)}, not classes; give one of these folders, "
            f'or load "folder:{path}" with a split'
        )
    if classes is None and (classes := listed(path)) is None:
        siblings = _splits(path.parent).values()
        classes = _class_names(siblings if path in siblings else [path])
    files = class_folders.read(path, classes, "put images into one sub-folder per class")
    if preprocess == "to_tensor" and size is None:
        size = _side(files[0][0], str(files[0][0]))
    how = {"preprocess": preprocess, "size": size, "remedy": "replace or remove the file"}
    name = path.resolve().name
    return class_folders.image_set(name, "test", files, classes, name, upright=True, **how)


def of_split(path: Path, split: str, **options: Any) -> ImageSet:
    """Load the split of a folder of one's own: all of it, or its sub-folder of that name.

    Parameters
    ----------
    path
        Folder with one sub-folder per class, or with `train`, `valid` (`val`), `test`, each of
        which has one per class.
    split
        "train", "valid" (alias "val") or "test".
    **options
        As `folder` takes them.

    Raises
    ------
    MissingDataError
        When there are sub-folders for splits, but none for this one; otherwise as `folder`.
    """
    split = check_split(str(path), split, SPLITS)
    parts = _splits(path) if path.is_dir() else {}
    if parts and split not in parts:
        raise MissingDataError(
            f"{path} has the splits {', '.join(parts)}, but no {split}; choose one of these, or "
            f"add a folder {path / split}"
        )
    if parts and options.get("classes") is None:
        options["classes"] = listed(path) or _class_names(parts.values())
    images = folder(parts.get(split, path), **options)
    return replace(images, name=path.resolve().name, split=split)


def _splits(path: Path) -> dict[str, Path]:
    """Return split -> sub-folder, of the sub-folders that have a split's name and hold folders."""
    return {
        _SPLIT_FOLDERS[part.name.lower()]: part
        for part in listing(path)
        if part.name.lower() in _SPLIT_FOLDERS
        and part.is_dir()
        and any(below.is_dir() for below in listing(part))
    }


def _class_names(folders: Iterable[Path]) -> list[str]:
    """Return the names of all sub-folders in the order of the labels.

    Names are sorted, numbers (alone or after a common word) by value. Numbers alone are labels to
    whoever gave them, so gaps are refused: what a label means would be a guess.
    """
    below = [path for part in folders for path in listing(part)]
    names = sorted({text.composed(path.name) for path in below if path.is_dir()})
    numbered = [re.fullmatch(r"(\D*)(\d+)", name) for name in names]
    stems = {match[1] for match in numbered if match}
    if not names or not all(numbered) or len(stems) != 1:
        return names
    value_of = {match[0]: int(match[2]) for match in numbered if match}
    values = sorted(value_of.values())
    if stems == {""} and values != list(range(values[0], values[0] + len(values))):
        raise ValueError(
            f"the class folders {', '.join(sorted(names, key=value_of.__getitem__)[:4])} … are "
            "numbers with gaps, so their labels would be a guess; write a file classes.txt beside "
            "them with one name a line in the order of the network's outputs, or give classes="
        )
    return sorted(names, key=value_of.__getitem__)


def listed(path: Path) -> list[str] | None:
    """Return the classes that `path/classes.txt` names, one a line; None without such a file.

    Raises ValueError for a name that is there twice.
    """
    file = path / "classes.txt"
    if not file.is_file():
        return None
    names = [name.strip() for name in text.read(file).splitlines() if name.strip()]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{file} names {twice[0]!r} twice; a class has one place")
    return names


def parquet(
    files: str | Path | Sequence[str | Path],
    *,
    image: str = "image",
    label: str = "label",
    box: str = "bbox",
    size: int | None = None,
    classes: Sequence[str] | None = None,
) -> ImageSet:
    """Load parquet files as the Hugging Face hub serves them; decoded once, upright, and mapped.

    Parameters
    ----------
    files
        One file, or several parts in their order.
    image, label, box
        Columns: struct<bytes, path>; whole numbers; xmin, ymin, xmax, ymax in pixels with inclusive
        maxima (optional).
    size
        Side of every image in pixels; None: that of the first image.
    classes
        Class names in the order of the labels. None: those the hub writes into the file's metadata,
        or else "class 0" … if the labels begin at 0.

    Raises
    ------
    MissingDataError
        For a file that is not there.
    DamagedDataError
        Naming the file that cannot be used.
    """
    paths = [
        Path(one).expanduser() for one in ([files] if isinstance(files, str | Path) else files)
    ]
    missing = [str(path) for path in paths if not path.is_file()]
    if missing or not paths:
        raise MissingDataError(
            f"no parquet file at {', '.join(missing) or '(none given)'}; give the paths of all "
            "parts of the set"
        )
    rows = partial(hub.rows, paths, image=image, label=label, box=box)
    if size is None:
        first = next(rows(), None)
        if first is None:
            raise DamagedDataError(f"{paths[0]} has no rows; fetch it again")
        size = _side(io.BytesIO(first[0]), first[1])
    columns = hashlib.sha256(repr((image, label, box, size)).encode()).hexdigest()[:8]
    names = tuple(classes) if classes is not None else _hub_classes(paths, label)
    source = decoded.Source(
        f"parquet-{columns}", paths, size, classes=lambda: names, rows=rows, upright=True
    )
    return decoded.load(source, "test", paths[0].stem)


def _side(file: Path | io.BytesIO, where: str) -> int:
    """Return width and height of a square image."""
    width, height = rgb.decode(file, where, "replace it").size
    if width != height:
        raise ValueError(
            f"{where} is {width}x{height}, not square; for a folder choose "
            'preprocess="resize256-bicubic" (-p preprocess resize256-bicubic), otherwise crop the '
            "images first"
        )
    return width


def _hub_classes(files: list[Path], label: str) -> tuple[str, ...]:
    """Return names from the hub's metadata of the label column, else numbers up to the largest."""
    try:
        schema = pq.read_schema(files[0])
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        names = features.get("info", {}).get("features", {}).get(label, {}).get("names")
        if names:
            return tuple(str(name) for name in names)
        columns = [pq.read_table(file, columns=[label])[label].to_pylist() for file in files]
        labels = [number for column in columns for number in column]
        least, most = min(labels), max(labels)
        numbers = tuple(f"class {i}" for i in range(1 + most))
    except (pa.ArrowInvalid, OSError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise DamagedDataError(
            f"{files[0]} cannot be read or has no column {label!r} of whole numbers ({error!r}); "
            "name the right column, or fetch it again"
        ) from error
    if least != 0:
        raise DamagedDataError(
            f"{files[0]}: labels must lie in 0..C-1, but run from {least} to {most}; number them "
            "from 0, or give classes= if they do not all occur"
        )
    return numbers
