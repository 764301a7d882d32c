"""Images per second of the first epoch over encoded images, and of one over their decoded cache.

The files are dropped from the system's page cache before each pass where the system can do that,
so both read from the disk.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tttlib import data

BATCH = 250


def bench_data(
    name: str = "tiny-imagenet",
    split: str = "valid",
    root: Path | None = None,
    rounds: int = 3,
) -> dict[str, float | str]:
    """images/s of both passes and their ratio, medians over rounds with the ratio's extremes.

    A pass loads the set and converts every batch of 250 to float32 in [0,1]: what an epoch of an
    idle model would do. The first one decodes into an empty cache, the second finds it full.
    Raises MissingDataError without the dataset's files.
    """
    source = data.data_root(root)
    first: list[float] = []
    cached: list[float] = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder, _cache_in(folder):
            for rates, files in ((first, source), (cached, Path(folder))):
                _forget(files)
                start = time.perf_counter()
                n = _epoch(name, split, root)
                rates.append(n / (time.perf_counter() - start))
    ratios = [b / a for a, b in zip(first, cached, strict=True)]
    return {
        "set": f"{name} {split}",
        "images": n,
        "first": statistics.median(first),
        "cached": statistics.median(cached),
        "ratio": statistics.median(ratios),
        "low": min(ratios),
        "high": max(ratios),
    }


def _epoch(name: str, split: str, root: Path | None) -> int:
    images = data.load(name, split, root).images
    for start in range(0, len(images), BATCH):
        images[start : start + BATCH].float().div_(255)
    return len(images)


@contextmanager
def _cache_in(folder: str) -> Iterator[None]:
    """$TTTLIB_CACHE names `folder` for a while."""
    before = os.environ.get("TTTLIB_CACHE")
    os.environ["TTTLIB_CACHE"] = folder
    try:
        yield
    finally:
        if before is None:
            del os.environ["TTTLIB_CACHE"]
        else:
            os.environ["TTTLIB_CACHE"] = before


def _forget(folder: Path) -> None:
    """Drop the folder's files from the page cache (Linux; elsewhere nothing happens)."""
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
