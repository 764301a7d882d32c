"""Image sets of one's own: class folders, and parquet files in the hub's layout."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tttlib.data import class_folders, decoded, hub
from tttlib.data.image_files import FileImages, rgb
from tttlib.data.imageset import DamagedDataError, ImageSet, MissingDataError
from tttlib.data.lookup import listing


def folder(
    path: str | Path,
    *,
    classes: Sequence[str] | None = None,
    size: int | None = None,
    preprocess: str = "to_tensor",
) -> ImageSet:
    """Images in `path/<class>/`, decoded when indexed.

    In the notebooks: `dataset = "folder:PATH"`.

    classes     names of the sub-folders in the order of a model's outputs; None: the lines of
                `path/classes.txt`, or else all sub-folders, sorted
    size        side of every image in pixels; None: that of the first image
    preprocess  one of `files.PREPROCESS`; needed where sizes differ
    Raises MissingDataError, DamagedDataError or ValueError, naming the file or the legal values.
    """
    path = Path(path).expanduser()
    if not path.is_dir():
        raise MissingDataError(f"{path} is no folder; give one that has a sub-folder per class")
    if classes is None:
        classes = listed(path)
    if classes is None:
        classes = [entry.name for entry in listing(path) if Path(entry.path).is_dir()]
    remedy = "replace or remove the file"
    files = class_folders.read(path, classes, "put images into one sub-folder per class")
    if preprocess == "to_tensor" and size is None:
        size = _side(files[0][0], str(files[0][0]))
    images = FileImages([one for one, _ in files], preprocess, size, remedy)
    name = path.resolve().name
    return class_folders.image_set(name, "test", files, images, classes, name)


def listed(path: Path) -> list[str] | None:
    """The classes that `path/classes.txt` names, one a line; None without such a file."""
    file = path / "classes.txt"
    if not file.is_file():
        return None
    return [name.strip() for name in file.read_text(encoding="utf-8").splitlines() if name.strip()]


def parquet(
    files: str | Path | Sequence[str | Path],
    *,
    image: str = "image",
    label: str = "label",
    box: str = "bbox",
    size: int | None = None,
) -> ImageSet:
    """Images in parquet files as the Hugging Face hub serves them, decoded once and mapped.

    files   one file or several parts in their order
    image, label, box   columns: struct<bytes, path>; whole numbers; xmin, ymin, xmax, ymax in
            pixels with inclusive maxima (optional)
    size    side of every image in pixels; None: that of the first image
    The class names are those the hub writes into the file's metadata, else "class 0" ….
    Raises MissingDataError or DamagedDataError, naming the file.
    """
    paths = [Path(one) for one in ([files] if isinstance(files, str | Path) else files)]
    paths = [one.expanduser() for one in paths]
    missing = [str(one) for one in paths if not one.is_file()]
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
        size = _side(io.BytesIO(first[0]), f"image 0 of {paths[0]}")
    columns = hashlib.sha256(repr((image, label, box, size)).encode()).hexdigest()[:8]
    classes = partial(_classes, paths, label)
    source = decoded.Source(f"parquet-{columns}", paths, size, classes, rows)
    return decoded.load(source, "test", paths[0].stem)


def _side(file: Path | io.BytesIO, where: str) -> int:
    """Width and height of a square image."""
    width, height = rgb(file, where, "replace it").size
    if width != height:
        raise ValueError(
            f"{where} is {width}x{height}, not square; for a folder choose "
            'preprocess="resize256-bicubic", otherwise crop the images first'
        )
    return width


def _classes(files: list[Path], label: str) -> tuple[str, ...]:
    """Names from the hub's metadata of the label column, else numbered up to the largest label."""
    try:
        schema = pq.read_schema(files[0])
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        names = features.get("info", {}).get("features", {}).get(label, {}).get("names")
        if names:
            return tuple(str(name) for name in names)
        columns = [pq.read_table(file, columns=[label])[label].to_pylist() for file in files]
        return tuple(f"class {i}" for i in range(1 + max(max(one) for one in columns if one)))
    except (pa.ArrowInvalid, OSError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise DamagedDataError(
            f"{files[0]} cannot be read or has no column {label!r} of whole numbers ({error!r}); "
            "name the right column, or fetch it again"
        ) from error
