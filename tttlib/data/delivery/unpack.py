"""Unpacking archives that somebody else made: nothing leaves the folder, nothing is half there."""

from __future__ import annotations

import errno
import os
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from tttlib.runtime.errors import DamagedDataError

_DAMAGES = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError)


def unpack(archive: Path, into: Path, folders: Sequence[str]) -> None:
    """Move the `folders` that a .zip or .tar(.gz) holds (at any depth) into the folder `into`.

    They appear there complete or not at all; one that is there already stays as it is.

    Raises
    ------
    DamagedDataError
        For a damaged archive, one that lacks a folder, and a .tar with members that are links or
        devices or lie outside; nothing of it is kept then.
    OSError
        For a full disk.
    """
    into.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=into, prefix=".unpacking-") as temporary:
        work = Path(temporary)
        extract = _extract_zip if archive.suffix == ".zip" else _extract_tar
        try:
            extract(archive, work)
        except _DAMAGES as error:
            reason = str(error).partition("\n")[0].rstrip(":")
            raise DamagedDataError(
                f"{archive} cannot be unpacked ({reason}); remove it and download it again"
            ) from error
        places = [_place(archive, work, folder) for folder in folders]
        for place, folder in zip(places, folders, strict=True):
            if not (into / folder).exists():
                os.replace(place, into / folder)


def _place(archive: Path, work: Path, folder: str) -> Path:
    """Return where a folder lies among what was unpacked; the least deep if there are several."""
    matches = [Path(top) for top, _, _ in os.walk(work) if os.path.basename(top) == folder]
    if not matches:
        held = ", ".join(sorted(entry.name for entry in work.iterdir())[:5]) or "nothing"
        raise DamagedDataError(
            f"{archive} does not hold the folder {folder}, but {held}; remove it and download it "
            "again"
        )
    return min(matches, key=lambda path: len(path.parts))


def _extract_tar(archive: Path, into: Path) -> None:
    with tarfile.open(archive) as tar, _bar(archive, tar) as members:
        tar.extractall(into, members, filter=_only_data)


def _only_data(member: tarfile.TarInfo, into: str) -> tarfile.TarInfo:
    """Admit files and folders that stay inside; no dataset needs links."""
    if member.issym() or member.islnk():
        raise tarfile.ReadError(f"{member.name!r} is a link")
    return tarfile.data_filter(member, into)


def _extract_zip(archive: Path, into: Path) -> None:
    """Extract all; zipfile keeps members inside `into` and makes no links."""
    with zipfile.ZipFile(archive) as zipped:
        needed = sum(member.file_size for member in zipped.infolist())
        free = shutil.disk_usage(into).free
        if needed > free:
            raise OSError(
                errno.ENOSPC, f"{needed:,} bytes are needed, {free:,} are free", str(into)
            )
        with _bar(archive, zipped.infolist()) as members:
            zipped.extractall(into, members)


def _bar(archive: Path, members: Any) -> Any:
    return tqdm(members, desc=f"unpack {archive.name}", unit="file")
