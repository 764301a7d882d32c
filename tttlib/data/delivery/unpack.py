"""Unpacking archives that somebody else made: nothing leaves the folder, nothing is half there."""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from tqdm.auto import tqdm

from tttlib.data.imageset import DamagedDataError


def unpack(archive: Path, into: Path, folders: Sequence[str], progress: bool = True) -> None:
    """Move the `folders` that a .zip or .tar(.gz) holds (at any depth) into the folder `into`.

    They appear there complete or not at all; one that is there already stays as it is. Raises
    DamagedDataError for a damaged archive, one that lacks a folder, and one with members that are
    links, devices or lie outside (nothing of it is kept then); OSError for a full disk.
    """
    into.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=into, prefix=".unpacking-") as temporary:
        work = Path(temporary)
        extract = _extract_zip if archive.suffix == ".zip" else _extract_tar
        try:
            extract(archive, work, progress)
        except _DAMAGES as error:
            raise DamagedDataError(
                f"{archive} cannot be unpacked ({error}); remove it and download it again"
            ) from error
        places = [_place(archive, work, folder) for folder in folders]
        for place, folder in zip(places, folders, strict=True):
            if not (into / folder).exists():
                os.replace(place, into / folder)


_DAMAGES = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError)


def _place(archive: Path, work: Path, folder: str) -> Path:
    """Where a folder lies among what was unpacked; the least deep if there are several."""
    found = [Path(top) for top, _, _ in os.walk(work) if os.path.basename(top) == folder]
    if not found:
        held = ", ".join(sorted(entry.name for entry in work.iterdir())[:5]) or "nothing"
        raise DamagedDataError(
            f"{archive} does not hold the folder {folder}, but {held}; remove it and download it "
            "again"
        )
    return min(found, key=lambda path: len(path.parts))


def _extract_tar(archive: Path, into: Path, progress: bool) -> None:
    safe: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
    with tarfile.open(archive) as tar, _bar(archive, None, progress) as bar:
        for member in tar:
            _refuse(archive, member.name, member.isfile() or member.isdir())
            tar.extract(member, into, **safe)
            bar.update()


def _extract_zip(archive: Path, into: Path, progress: bool) -> None:
    with zipfile.ZipFile(archive) as found:
        members = found.infolist()
        for member in members:
            kind = stat.S_IFMT(member.external_attr >> 16)
            _refuse(archive, member.filename, kind in (0, stat.S_IFREG, stat.S_IFDIR))
        needed = sum(member.file_size for member in members)
        free = shutil.disk_usage(into).free
        if needed > free:
            raise OSError(
                errno.ENOSPC, f"{needed:,} bytes are needed, {free:,} are free", str(into)
            )
        with _bar(archive, len(members), progress) as bar:
            for member in members:
                found.extract(member, into)
                bar.update()


def _bar(archive: Path, total: int | None, progress: bool) -> Any:
    return tqdm(total=total, desc=f"unpack {archive.name}", unit="file", disable=not progress)


def _refuse(archive: Path, name: str, plain: bool) -> None:
    """DamagedDataError unless the member is a plain file or folder inside the archive's own."""
    path = PurePosixPath(name)
    outside = path.is_absolute() or ".." in path.parts or re.match(r"[A-Za-z]:|.*\\", name)
    if outside or not plain:
        what = "lies outside its folder" if outside else "is a link or a device"
        raise DamagedDataError(
            f"{archive} was not unpacked: its member {name!r} {what}, which no dataset needs; "
            "remove the archive and download it from the publisher"
        )
