"""Fetching the published archives: resumed transfers, verified checksums, careful unpacking.

pooch decides whether a file is there already, verifies the checksum and gives the file its final
name; the transfer is done here because pooch cannot resume one. What stands under a final name is
complete. Archives are unpacked into a temporary folder, and only their expected folders are moved
to where the loaders look for them.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pooch
import requests
import urllib3
from tqdm.auto import tqdm

from tttlib import __version__
from tttlib.data.delivery import unpack
from tttlib.data.delivery.archives import ARCHIVES, INSTEAD, Archive
from tttlib.data.imageset import DamagedDataError, data_root

log = logging.getLogger(__name__)

_CHUNK = 1 << 20  # bytes
_TIMEOUT = (15, 60)  # seconds: to connect, between two arrivals
_DIGITS = {"md5": 32, "sha1": 40, "sha256": 64, "sha512": 128}
_FULL = (errno.ENOSPC, errno.EDQUOT)


class DownloadError(ValueError):
    """A file could not be fetched, for a reason outside the library; says what to do."""


def download(
    name: str,
    root: str | Path | None = None,
    *,
    only: Sequence[str] = (),
    checksum: str | None = None,
    unverified: bool = False,
    keep: bool = False,
    progress: bool = True,
) -> list[Path]:
    """Fetch a dataset (or "imagenet-5000-list") into the data root; returns what is there then.

    only        names of archives, of sets that have several
    checksum    "md5:…", "sha256:…" of the file, where none is known (or another is right)
    unverified  accept a file without a known checksum
    keep        do not delete archives after unpacking

    A broken-off or interrupted transfer leaves FILE.part, from which the next call goes on.
    Raises ValueError for what cannot be downloaded (says what to do instead), DownloadError
    (network, full disk) or DamagedDataError (wrong checksum, unusable archive).
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
    fetched = []
    for archive in archives:
        fetched += _fetch(archive, base, checksum or archive.checksum, keep, progress)
    return fetched


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


def _fetch(
    archive: Archive, base: Path, known: str | None, keep: bool, progress: bool
) -> list[Path]:
    targets = [base / archive.into / folder for folder in archive.folders]
    if targets and all(target.exists() for target in targets):
        log.info("%s: its folders are there already, nothing fetched", archive.file)
        return targets
    path = base / archive.file
    if known is None:
        log.warning("UNVERIFIED: %s has no known checksum; anything may come", archive.url)
    with _told(base, f"{archive.file} from {archive.url}"):
        base.mkdir(parents=True, exist_ok=True)
        try:
            transfer = Transfer(path.with_name(f"{path.name}.part"), progress)
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
    held = f"the content of {path} (about {path.stat().st_size:,} bytes or more)"
    with _told(base, held, "the archive is kept and"):
        unpack.unpack(path, base / archive.into, archive.folders, progress)
    if not keep:
        path.unlink()
    return targets


@contextmanager
def _told(base: Path, what: str, kept: str = "what has arrived is kept and") -> Iterator[None]:
    """A full disk, and a folder that cannot be written to, as a DownloadError."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise DownloadError(
                f"{base} is full: no room for {what}; make room, {kept} the same command resumes"
            ) from error
        raise DownloadError(
            f"{error.filename or base} cannot be written ({error.strerror or error}); check its "
            "permissions or choose another data root"
        ) from error


class Transfer:
    """A downloader for pooch that goes on from what an earlier transfer left in `part`."""

    def __init__(self, part: Path, progress: bool = True) -> None:
        self.part, self.progress = part, progress

    def __call__(self, url: str, output_file: str, manager: Any, check_only: bool = False) -> None:
        """Fetch `url` into `part`, then give it the name `output_file`.

        Raises DownloadError when `url` cannot be fetched or breaks off, or the disk is full.
        """
        resumes = f"{self.part} is kept; the same command resumes"
        try:
            self._complete(url)
        except (requests.ConnectionError, requests.Timeout, urllib3.exceptions.HTTPError) as error:
            there = self._there()
            broke = f"broke off after {there:,} bytes" if there else "cannot be reached"
            advice = resumes if there else "check the connection and try again"
            raise DownloadError(f"{url} {broke} ({_reason(error)}); {advice}") from error
        except requests.RequestException as error:
            raise DownloadError(f"{url} cannot be fetched ({_reason(error)})") from error
        os.replace(self.part, output_file)

    def _there(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _complete(self, url: str) -> None:
        """Everything that is not in `part` yet; all of it if the server cannot go on."""
        there = self._there()
        with self._ask(url, there) as response:
            status = response.status_code
            goes_on = status == 206 and _start(response) == there
            if there and status == 416 and _total(response) == there:
                return  # nothing lies behind what has arrived
            anew = bool(there) and status in (200, 206, 416) and not goes_on
            if anew:
                log.info("%s cannot be resumed by its server, starting anew", self.part.name)
                self.part.unlink()
            elif status != 200 and not goes_on:
                raise DownloadError(
                    f"{url} answers {status} {response.reason}; try again later, or fetch it by "
                    f"hand, save it as {self.part.with_suffix('')} and run the same command"
                )
            if not anew or status == 200:
                return self._take(url, response, self._there())
        return self._complete(url)

    def _take(self, url: str, response: requests.Response, there: int) -> None:
        total = _total(response)
        self._check_room(total, there)
        self._write(response, there, total)
        found = self._there()
        if total is not None and found > total:
            self.part.unlink()
            raise DownloadError(f"{url} sent {found:,} bytes, but promised {total:,}; try again")
        if total is not None and found < total:
            raise DownloadError(
                f"{url} broke off after {found:,} of {total:,} bytes; {self.part} is kept; the "
                "same command resumes"
            )

    def _ask(self, url: str, there: int) -> requests.Response:
        headers = {"User-Agent": f"tttlib/{__version__}", "Accept-Encoding": "identity"}
        if there:
            headers["Range"] = f"bytes={there}-"
        return requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT)

    def _check_room(self, total: int | None, there: int) -> None:
        free = shutil.disk_usage(self.part.parent).free
        if total is not None and total - there > free:
            raise DownloadError(
                f"{self.part.parent} has {free:,} bytes free, but {total - there:,} are needed for "
                f"{self.part.with_suffix('').name}, and as much again to unpack it; make room or "
                "choose another data root"
            )

    def _write(self, response: requests.Response, there: int, total: int | None) -> None:
        bar = tqdm(
            desc=self.part.with_suffix("").name,
            total=total,
            initial=there,
            unit="B",
            unit_scale=True,
            disable=not self.progress,
        )
        try:
            with bar, self.part.open("ab" if there else "wb") as stream:
                for chunk in response.raw.stream(_CHUNK, decode_content=False):
                    _put(stream, chunk)
                    bar.update(len(chunk))
        except OSError as error:
            if error.errno in _FULL:
                left = "" if total is None else f"{total - self._there():,} more bytes are needed; "
                raise DownloadError(
                    f"{self.part.parent} is full: {left}make room, what has arrived is kept and "
                    "the same command resumes"
                ) from error
            raise


def _put(stream: IO[bytes], chunk: bytes) -> None:
    stream.write(chunk)


def _start(response: requests.Response) -> int:
    """First byte of a partial answer; -1 if it does not say."""
    match = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return int(match[1]) if match else -1


def _total(response: requests.Response) -> int | None:
    """Bytes of the whole file, if the answer tells."""
    if response.status_code == 200:
        length = response.headers.get("Content-Length", "")
        return int(length) if length.isdecimal() else None
    match = re.search(r"/(\d+)$", response.headers.get("Content-Range", ""))
    return int(match[1]) if match else None


def _reason(error: Exception) -> str:
    """The innermost cause, which is the readable one."""
    while error.args and isinstance(error.args[-1], Exception):
        error = error.args[-1]
    reason = getattr(error, "reason", None)
    return _reason(reason) if isinstance(reason, Exception) else str(error)
