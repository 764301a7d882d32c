"""Finding the files of a dataset, and telling two states of them apart."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from tttlib.data.imageset import DamagedDataError, MissingDataError


def find(dataset: str, root: Path, places: Sequence[str], source: str) -> Path:
    """The first of the folders `places` under `root` that exists, or `root` if it is one of them.

    source  where the files are to be had; ends the message
    Raises MissingDataError that names every place looked at, DamagedDataError for one that cannot
    be read.
    """
    candidates = [root / place for place in places]
    last_names = {Path(place).name for place in places}
    for candidate in [*candidates, *([root] if root.resolve().name in last_names else [])]:
        try:
            if candidate.is_dir():
                return candidate
        except OSError as error:
            raise unreadable(candidate, error) from error
    looked = " or ".join(str(candidate) for candidate in candidates)
    raise MissingDataError(
        f"{dataset}: looked for {looked}, without success. Get it from {source} and unpack it "
        f"under {root}, or point TTTLIB_DATA (or root=) at the folder that holds it."
    )


def listing(folder: Path) -> list[os.DirEntry[str]]:
    """Entries of the folder sorted by name, without hidden ones. Raises DamagedDataError."""
    try:
        with os.scandir(folder) as entries:
            return sorted((e for e in entries if e.name[0] != "."), key=lambda e: e.name)
    except OSError as error:
        raise unreadable(folder, error) from error


def unreadable(path: Path, error: OSError) -> DamagedDataError:
    """What to raise when the system does not let `path` be read."""
    reason = error.strerror or str(error)
    return DamagedDataError(
        f"{path} cannot be read ({reason}); check its permissions and links, or unpack it again"
    )


def fingerprint(key: str, files: Sequence[Path], remedy: str) -> str:
    """sha256 (16 hex digits) of `key` and of names, sizes and both ends (64 KiB) of the files.

    Raises DamagedDataError when one is missing or cannot be read; `remedy` ends the message.
    """
    digest = hashlib.sha256(key.encode())
    for file in files:
        if not file.is_file():
            raise DamagedDataError(f"{file} is missing; {remedy}")
        size = file.stat().st_size
        digest.update(f"{file.name} {size}".encode())
        try:
            with file.open("rb") as stream:
                digest.update(stream.read(65536))
                stream.seek(max(0, size - 65536))
                digest.update(stream.read(65536))
        except OSError as error:
            raise unreadable(file, error) from error
    return digest.hexdigest()[:16]
