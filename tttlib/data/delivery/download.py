"""Fetching the published archives: resumed transfers, verified checksums, careful unpacking.

pooch decides whether a file is there already, verifies the checksum and gives the file its final
name; the transfer itself is `Transfer`'s. What stands under a final name is complete. Archives are
unpacked into a temporary folder, and only their expected folders are moved to where the loaders
look for them.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import filelock
import pooch

from tttlib.data.delivery import unpack
from tttlib.data.delivery.archives import ARCHIVES, INSTEAD, Archive
from tttlib.data.delivery.transfer import DownloadError, Transfer
from tttlib.runtime.errors import DamagedDataError
from tttlib.runtime.paths import data_root

log = logging.getLogger(__name__)

_DIGITS = {"md5": 32, "sha1": 40, "sha256": 64, "sha512": 128}
_FULL = (errno.ENOSPC, errno.EDQUOT)
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


def download(
    name: str,
    root: str | Path | None = None,
    *,
    only: Sequence[str] = (),
    checksum: str | None = None,
    unverified: bool = False,
    keep: bool = False,
) -> list[Path]:
    """Fetch a dataset (or "imagenet-5000-list") into the data root.

    A broken-off or interrupted transfer leaves FILE.part, from which the next call goes on.

    Parameters
    ----------
    name
        One of `archives.ARCHIVES`.
    root
        The data root.
    only
        Names of archives, of sets that have several.
    checksum
        "md5:…", "sha256:…" of the file, where none is known (or another is right).
    unverified
        Whether to accept a file without a known checksum.
    keep
        Whether to keep archives after unpacking.

    Returns
    -------
    list of Path
        The folders or files that are there then.

    Raises
    ------
    ValueError
        For what cannot be downloaded; says what to do instead.
    DownloadError
        For network and disk.
    DamagedDataError
        For a wrong checksum or an unusable archive.
    """
    archives = _archives(name, only)
    if checksum is not None:
        _check_form(checksum)
        if len(archives) != 1:
            files = ", ".join(archive.file for archive in archives)
            raise ValueError(f"one checksum for several files; choose one of {files} with only")
    for archive in archives:
        if archive.checksum is None and checksum is None and not unverified:
            raise ValueError(
                f"{archive.url}: no checksum is known ({archive.published}). Give one as "
                "--checksum md5:…, or accept whatever comes with --unverified"
            )
    base = data_root(root)
    paths = []
    for archive in archives:
        with _disk_errors(base, archive.file), _alone(base, archive):
            paths += _fetch(archive, base, checksum or archive.checksum, keep)
    return paths


def _archives(name: str, only: Sequence[str]) -> list[Archive]:
    if name in INSTEAD:
        raise ValueError(f"{name} {INSTEAD[name]}")
    if name not in ARCHIVES:
        raise ValueError(f"no download for {name!r}; there are {', '.join(ARCHIVES)}")
    known = {archive.file: archive for archive in ARCHIVES[name]}
    for file in only:
        if file not in known:
            raise ValueError(f"{name} has no archive {file!r}; it has {', '.join(known)}")
    return [archive for file, archive in known.items() if not only or file in only]


def _check_form(checksum: str) -> None:
    algorithm, _, digits = checksum.partition(":")
    if not re.fullmatch(f"[0-9a-fA-F]{{{_DIGITS.get(algorithm, 0)}}}", digits) or not digits:
        raise ValueError(
            f"checksum {checksum!r} is not ALGORITHM:HEX; algorithms (and hex digits) are "
            + ", ".join(f"{name} ({n})" for name, n in _DIGITS.items())
        )


@contextlib.contextmanager
def _alone(base: Path, archive: Archive) -> Iterator[None]:
    """Let one process at a time fetch an archive; the others wait and find it there."""
    base.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(base / f".{archive.file}.lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        log.warning("another process fetches %s; waiting for it", archive.file)
        lock.acquire()
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        log.warning("%s: this file system has no locks; see to it that one process runs", base)
    try:
        yield
    finally:
        if lock.is_locked:
            with contextlib.suppress(OSError):  # Windows: still open
                Path(lock.lock_file).unlink(missing_ok=True)
            lock.release()


def _fetch(archive: Archive, base: Path, known: str | None, keep: bool) -> list[Path]:
    targets = [base / archive.into / folder for folder in archive.folders]
    if targets and all(target.exists() for target in targets):
        log.info("%s: its folders are there already, nothing fetched", archive.file)
        return targets
    path = base / archive.file
    if known is None:
        log.warning("UNVERIFIED: %s has no known checksum; anything may come", archive.url)
    transfer = Transfer(path.with_name(f"{path.name}.part"), verified=known is not None)
    try:
        pooch.retrieve(archive.url, known, archive.file, base, downloader=transfer)
    except DownloadError:
        raise
    except ValueError as error:  # pooch's, about the checksum
        raise DamagedDataError(
            f"{archive.url} has a wrong checksum ({error}); it was removed. Try again; if that "
            f"does not help, the file was changed since ({archive.published})"
        ) from error
    if known is None:
        digest = pooch.file_hash(str(path))
        log.warning("UNVERIFIED: the sha256 of what came for %s is %s", archive.file, digest)
    if not targets:
        return [path]
    size = f"{path.stat().st_size:,}"
    with _disk_errors(base, f"the content of {path} (about {size} bytes or more)"):
        unpack.unpack(path, base / archive.into, archive.folders)
    if not keep:
        path.unlink()
    return targets


@contextlib.contextmanager
def _disk_errors(base: Path, content: str) -> Iterator[None]:
    """Turn a full disk, and a folder that cannot be written to, into a DownloadError."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise DownloadError(
                f"{base} is full: no room for {content}; make room, what has arrived is kept and "
                "the same command goes on"
            ) from error
        raise DownloadError(
            f"{error.filename or base} cannot be written ({error.strerror or error}); check its "
            "permissions or choose another data root"
        ) from error
