"""Images per second of the first epoch over encoded images, and of one over their decoded cache.

Where the system allows it, the files are dropped from its page cache before each pass, so that both
passes read from the disk.
"""

from __future__ import annotations

import logging
import os
import statistics
import tempfile
import time
from pathlib import Path
from unittest.mock import patch

from tttlib import data
from tttlib.bench.timing import spread

log = logging.getLogger(__name__)

BATCH = 250


def bench_data(
    name: str = "tiny-imagenet", split: str = "valid", root: Path | None = None, rounds: int = 3
) -> dict[str, float | str]:
    """Return the images/s of both passes and their ratio, as medians over rounds.

    A pass loads the set and converts every batch of 250 to float32 in [0,1], which is what an epoch
    of an idle model would do. The first pass decodes into an empty cache and the second finds it
    full.

    Raises
    ------
    MissingDataError
        If the files of the dataset are missing.
    """
    source = data.data_root(root)
    first: list[float] = []
    cached: list[float] = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder, patch.dict(os.environ, TTTLIB_CACHE=folder):
            for rates, files in ((first, source), (cached, Path(folder))):
                _forget(files)
                start = time.perf_counter()
                n = _epoch(name, split, root)
                rates.append(n / (time.perf_counter() - start))
    return {
        "set": f"{name} {split}",
        "images": n,
        "first": statistics.median(first),
        "cached": statistics.median(cached),
        **spread([b / a for a, b in zip(first, cached, strict=True)]),
    }


def _epoch(name: str, split: str, root: Path | None) -> int:
    images = data.load(name, split, root).images
    for start in range(0, len(images), BATCH):
        images[start : start + BATCH].float().div_(255)
    return len(images)


def _forget(folder: Path) -> None:
    """Drop the files of a folder from the page cache, where the system can do that."""
    if not hasattr(os, "posix_fadvise"):
        return
    for path in folder.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)  # only what is written can be dropped
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)


def report(row: dict[str, float | str]) -> None:
    """Log the row."""
    log.info(
        "%(set)s, %(images)d images: first epoch %(first).0f images/s, from the cache "
        "%(cached).0f, ratio %(ratio).1f (%(low).1f to %(high).1f)",
        row,
    )
