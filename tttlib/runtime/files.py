"""Writing files so that a reader sees the old content or the new one, never a part of it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def atomic_write(path: str | Path, *, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside `path`, which replaces `path` when the block ends well.

    The temporary name is unique, so two processes that write one file do not disturb each other:
    the last one to finish wins. The content reaches the disk before the rename, so that a power
    cut leaves the old file or the new one. If the block raises, the temporary file is removed and
    `path` is left as it was.

    Parameters
    ----------
    path
        The file to write. Its folder must exist.
    durable
        Whether to wait for the disk. False suits thousands of small files that can be made again.

    Yields
    ------
    Path
        Where to write. Its name ends in ``.tmp``: writers that go by the suffix must be told the
        format.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
        if durable:
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write(path: str | Path, content: str | bytes) -> None:
    """Write a file whole or not at all, a text as UTF-8; its folder is made."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def sha256(*paths: Path) -> str:
    """Return the sha256 of the contents of files, one after the other."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
