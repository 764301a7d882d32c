"""Telling two states of a dataset's files apart, by every byte of them.

Reading every byte takes as long as the disk does, so what was read is remembered under the user's
cache, for as long as no file's size, place or times change. `tttlib data check` reads again
whatever is remembered.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm.auto import tqdm

from tttlib.runtime.errors import DamagedDataError, unreadable
from tttlib.runtime.files import atomic_write
from tttlib.runtime.paths import cache_root

log = logging.getLogger(__name__)

READERS = min(8, os.cpu_count() or 1)  # threads; reading and hashing release the lock
_PIECE = 1 << 17  # bytes
_JUST_NOW = 3e9  # nanoseconds; file systems do not tell two changes apart that follow closely


def fingerprint(
    key: str,
    files: Sequence[Path],
    remedy: str,
    *,
    reread: bool = False,
    allow_empty: bool = False,
) -> str:
    """Identify a set by `key` and by names, folders and content of its files, in 16 hex digits.

    Parameters
    ----------
    key
        What else decides the images: the name of the set, its classes, its preprocessing.
    files
        Every file that something served is read from.
    remedy
        Ends the message about a file that is missing or empty.
    reread
        Whether to read the files even if they seem unchanged since they were read last.
    allow_empty
        Whether files without a byte are admitted.

    Raises
    ------
    DamagedDataError
        For a file that is missing, empty or cannot be read; with `reread` also for files whose
        content changed although their times and sizes did not.
    """
    paths = [os.fspath(file) for file in files]
    states = [_state(path, remedy) for path in paths]
    for path, (size, *_) in zip(paths, states, strict=True):
        if size == 0 and not allow_empty:
            raise DamagedDataError(f"{path} is empty (0 bytes); {remedy}")
    identity = repr((os.getcwd(), paths, states)).encode("utf-8", "surrogateescape")
    record = cache_root() / "fingerprints" / hashlib.sha256(identity).hexdigest()[:32]
    remembered = _remembered(record)
    if remembered is None or reread:
        begun = time.time_ns()
        content = _content(paths, [state[0] for state in states])
        if remembered not in (None, content):
            record.unlink(missing_ok=True)
            raise DamagedDataError(
                f"{files[0].parent}: the content of a file changed, but neither its size nor its "
                f"times; {remedy}"
            )
        if begun - max(max(state[1:3]) for state in states) > _JUST_NOW:
            _remember(record, content)
        remembered = content
    return hashlib.sha256(f"{key}\n{remembered}".encode()).hexdigest()[:16]


def _state(path: str, remedy: str) -> tuple[int, int, int, int]:
    """Return what the file system tells of a file without reading it; the size comes first."""
    try:
        stat = os.stat(path)
    except FileNotFoundError as error:
        raise DamagedDataError(f"{path} is missing; {remedy}") from error
    except OSError as error:
        raise unreadable(Path(path), error) from error
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino


def _content(paths: Sequence[str], sizes: Sequence[int]) -> str:
    """Hash the files' bytes, and their names from the folder on that holds all of them."""
    digest = hashlib.sha256()
    common = len(os.path.commonpath({path.rpartition(os.sep)[0] for path in paths}))
    large = sum(sizes) > _PIECE * len(paths)  # threads gain nothing with small files
    bar = tqdm(total=len(paths), desc="fingerprint", unit="file", delay=2, leave=False)
    with bar, ThreadPoolExecutor(READERS) as pool:
        sums = pool.map(_sum, paths, sizes) if large else map(_sum, paths, sizes)
        for i, (path, sum_) in enumerate(zip(paths, sums, strict=True), 1):
            digest.update(path[common:].encode("utf-8", "surrogateescape"))
            digest.update(sum_)
            if i % 100 == 0:
                bar.update(100)
    return digest.hexdigest()


def _sum(path: str, size: int) -> bytes:
    """Return the sha256 of a file, without Python's file objects: small files come by thousands."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        try:
            digest = hashlib.sha256(os.read(descriptor, min(size, _PIECE)))
            while size > _PIECE and (part := os.read(descriptor, _PIECE)):
                digest.update(part)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise unreadable(Path(path), error) from error
    return digest.digest()


def _remembered(record: Path) -> str | None:
    with contextlib.suppress(OSError, ValueError):
        text = record.read_text(encoding="ascii")
        return text if re.fullmatch("[0-9a-f]{64}", text) else None
    return None


def _remember(record: Path, content: str) -> None:
    try:
        record.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(record) as temporary:
            temporary.write_text(content, encoding="ascii")
    except OSError as error:
        log.info("%s cannot be written (%s); the files are read again next time", record, error)
