"""One file over HTTP, resumed where an earlier transfer ended.

A part is only continued when the server says that the file is still the same (ETag, else
Last-Modified, sent as If-Range), or when a checksum will be compared at the end. No more bytes are
written than were promised, and an address that began with https is never left for http.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import shutil
from pathlib import Path
from typing import IO, Any
from urllib.parse import urljoin, urlsplit

import requests
import urllib3
from tqdm.auto import tqdm

from tttlib import __version__

log = logging.getLogger(__name__)

_CHUNK = 1 << 20  # bytes
_LARGEST = 64 << 30  # bytes; no archive comes near, so an endless answer ends here
_TIMEOUT = (15, 60)  # seconds: to connect, between two arrivals
_REDIRECTS = 10
FULL = (errno.ENOSPC, errno.EDQUOT)


class DownloadError(ValueError):
    """A file could not be fetched, for a reason outside the library; says what to do."""


class Transfer:
    """A downloader for pooch that goes on from what an earlier transfer left in `part`.

    Parameters
    ----------
    part
        Where the bytes go until they are complete; `part` with the suffix .json says of which
        version of the file they are.
    progress
        Whether to show a progress bar.
    verified
        Whether a checksum of the file will be compared afterwards.
    """

    def __init__(self, part: Path, progress: bool = True, verified: bool = True) -> None:
        self.part, self.progress, self.verified = part, progress, verified
        self.note = part.with_name(f"{part.name}.json")

    def __call__(self, url: str, output_file: str, manager: Any, check_only: bool = False) -> None:
        """Fetch `url` into `part`, then give it the name `output_file`.

        Raises DownloadError when `url` cannot be fetched or breaks off, or the disk is full.
        """
        try:
            self._complete(url)
        except (requests.ConnectionError, requests.Timeout, urllib3.exceptions.HTTPError) as error:
            there = self._there()
            if not there:
                raise DownloadError(
                    f"{url} cannot be reached ({_reason(error)}); check the connection and try "
                    "again"
                ) from error
            raise self._broke_off(url, f"{there:,} bytes ({_reason(error)})") from error
        except requests.RequestException as error:
            raise DownloadError(f"{url} cannot be fetched ({_reason(error)})") from error
        self.note.unlink(missing_ok=True)
        os.replace(self.part, output_file)

    def _there(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _broke_off(self, url: str, after: str) -> DownloadError:
        return DownloadError(
            f"{url} broke off after {after}; {self.part} is kept; the same command resumes"
        )

    def _complete(self, url: str) -> None:
        """Fetch everything that is not in `part` yet; all of it if that cannot be continued."""
        validator = self._validator(url)
        if self._there() and not validator and not self.verified:
            self.part.unlink()  # nothing would tell whether the rest belongs to it
        there = self._there()
        with self._ask(url, there, validator) as response:
            status = response.status_code
            same = not validator or _validator(response) in ("", validator)
            if there and status == 416 and _total(response) == there and same:
                return  # nothing lies behind what has arrived
            if there and status in (200, 206, 416):
                if status == 206 and _start(response) == there and same:
                    return self._take(url, response, there)
                log.info("%s cannot be resumed by its server, starting anew", self.part.name)
                self.part.unlink()
            if status == 200:
                return self._take(url, response, 0)
            if status not in (206, 416) or not there:
                raise DownloadError(
                    f"{url} answers {status} {response.reason}; try again later, or fetch it by "
                    f"hand, save it as {self.part.with_suffix('')} and run the same command"
                )
        return self._complete(url)

    def _ask(self, url: str, there: int, validator: str) -> requests.Response:
        headers = {"User-Agent": f"tttlib/{__version__}", "Accept-Encoding": "identity"}
        if there:
            headers["Range"] = f"bytes={there}-"
            if validator:
                headers["If-Range"] = validator
        for _ in range(_REDIRECTS):
            response = requests.get(
                url, headers=headers, stream=True, timeout=_TIMEOUT, allow_redirects=False
            )
            if not response.is_redirect:
                return response
            response.close()
            target = urljoin(url, response.headers["Location"])
            if urlsplit(url).scheme == "https" and urlsplit(target).scheme != "https":
                raise DownloadError(
                    f"{url} leads to {target}, which is not encrypted; fetch it by hand, save it "
                    f"as {self.part.with_suffix('')} and run the same command"
                )
            url = target
        raise DownloadError(f"{url} leads from address to address; try again later")

    def _take(self, url: str, response: requests.Response, there: int) -> None:
        total = _total(response)
        self._check_room(url, total, there)
        self._remember(url, _validator(response))
        arrived = self._write(response, there, total)
        limit = _LARGEST if total is None else total
        if arrived > limit:
            self.part.unlink()
            raise DownloadError(f"{url} sent more than the {limit:,} bytes it may have; try again")
        if total is not None and arrived < total:
            raise self._broke_off(url, f"{arrived:,} of {total:,} bytes")

    def _check_room(self, url: str, total: int | None, there: int) -> None:
        free = shutil.disk_usage(self.part.parent).free
        if total is not None and total > _LARGEST:
            raise DownloadError(f"{url} promises {total:,} bytes, more than any dataset; try again")
        if total is not None and total - there > free:
            raise DownloadError(
                f"{self.part.parent} has {free:,} bytes free, but {total - there:,} are needed for "
                f"{self.part.with_suffix('').name}, and as much again to unpack it; make room or "
                "choose another data root"
            )

    def _write(self, response: requests.Response, there: int, total: int | None) -> int:
        """Append what comes and return the bytes in `part`: at most a chunk more than `total`."""
        limit = _LARGEST if total is None else total
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
                    there += len(chunk)
                    bar.update(len(chunk))
                    if there > limit:
                        break
        except OSError as error:
            if error.errno in FULL:
                left = "" if total is None else f"{total - self._there():,} more bytes are needed; "
                raise DownloadError(
                    f"{self.part.parent} is full: {left}make room, what has arrived is kept and "
                    "the same command resumes"
                ) from error
            raise
        return there

    def _validator(self, url: str) -> str:
        """Return which version of the file the part is of; empty if that is not known."""
        try:
            note = json.loads(self.note.read_text(encoding="utf-8"))
            return str(note["validator"]) if note["url"] == url else ""
        except (OSError, ValueError, KeyError, TypeError):
            return ""

    def _remember(self, url: str, validator: str) -> None:
        if validator:
            self.note.write_text(json.dumps({"url": url, "validator": validator}), "utf-8")
        else:
            self.note.unlink(missing_ok=True)


def _put(stream: IO[bytes], chunk: bytes) -> None:
    stream.write(chunk)


def _validator(response: requests.Response) -> str:
    """Return the strong ETag of the answer, else its Last-Modified, else nothing."""
    etag = response.headers.get("ETag", "")
    return etag if etag.startswith('"') else response.headers.get("Last-Modified", "")


def _start(response: requests.Response) -> int:
    """Return the first byte of a partial answer; -1 if it does not say."""
    match = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return int(match[1]) if match else -1


def _total(response: requests.Response) -> int | None:
    """Return the bytes of the whole file, if the answer says."""
    if response.status_code == 200:
        length = response.headers.get("Content-Length", "")
        return int(length) if length.isdecimal() else None
    match = re.search(r"/(\d+)$", response.headers.get("Content-Range", ""))
    return int(match[1]) if match else None


def _reason(error: Exception) -> str:
    """Return the innermost cause, which is the readable one."""
    while error.args and isinstance(error.args[-1], Exception):
        error = error.args[-1]
    reason = getattr(error, "reason", None)
    return _reason(reason) if isinstance(reason, Exception) else str(error)
