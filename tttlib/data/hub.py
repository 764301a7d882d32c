"""Parquet files as the Hugging Face hub serves image sets: a struct of bytes, a label, maybe a box.

The columns' names differ from set to set (`image`, `img`; `label`, `fine_label` …), so they are
arguments.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tttlib.data.decoded import Row
from tttlib.runtime.errors import DamagedDataError


def rows(
    files: list[Path], *, image: str = "image", label: str = "label", box: str = "bbox"
) -> Iterator[Row]:
    """Yield the rows of all files in order: encoded image, its place, label, box or None.

    Parameters
    ----------
    files
        The parquet files.
    image, label, box
        Names of the columns; the box is optional.

    Raises
    ------
    DamagedDataError
        Naming the file that cannot be read or lacks a column.
    """
    for file in files:
        count = itertools.count()
        try:
            for batch in pq.ParquetFile(file).iter_batches(batch_size=1000):
                images, labels = batch.column(image).to_pylist(), batch.column(label).to_pylist()
                boxed = box in batch.schema.names
                boxes = batch.column(box).to_pylist() if boxed else [None] * len(images)
                for stored, number, corners in zip(images, labels, boxes, strict=True):
                    if type(number) is not int:
                        raise TypeError(f"label {number!r} is no whole number")
                    if not isinstance(stored["bytes"], bytes):
                        raise TypeError("an image is not stored in the file")
                    where = f"image {next(count)} of {file}"
                    yield stored["bytes"], where, number, tuple(corners) if corners else None
        except (pa.ArrowInvalid, OSError, KeyError, TypeError) as error:
            raise DamagedDataError(
                f"{file} is truncated or has no columns {image!r} and {label!r} of images and "
                f"numbers ({error}); fetch it again"
            ) from error
