"""One file over HTTP, resumed where an earlier transfer ended.

A part is only continued when the server says that the file is still the same (ETag, else
Last-Modified, sent as If-Range), or when a checksum will be compared at the end. No more bytes are
written than were promised, and an address that began with https is never left for http.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
from pathlib import Path
from typing import Any
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


class DownloadError(ValueError):
    """A file could not be fetched, for a reason outside the library; says what to do."""


class Transfer:
    """A downloader for pooch that goes on from what an earlier transfer left in `part`.

    Parameters
    ----------
    part
        Where the bytes go until they are complete; `part` with the suffix .version says of which
        version of the file they are.
    verified
        Whether a checksum of the file will be compared afterwards.
    """

    def __init__(self, part: Path, verified: bool = True) -> None:
        self.part, self.verified = part, verified
        self.note = part.with_name(f"{part.name}.version")
        self._by_hand = f"save it as {part.with_suffix('')} and run the same command"

    def __call__(self, url: str, output_file: str, manager: Any, check_only: bool = False) -> None:
        """Fetch `url` into `part`, then give it the name `output_file`.

        Raises DownloadError when `url` cannot be fetched or breaks off.
        """
        try:
            self._complete(url)
        except (requests.ConnectionError, requests.Timeout, urllib3.exceptions.HTTPError) as error:
            if there := self._there():
                raise self._broke_off(url, f"{there:,} bytes ({_reason(error)})") from error
            raise DownloadError(
                f"{url} cannot be reached ({_reason(error)}); check the connection and try again"
            ) from error
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
        validator = self._noted(url)
        if not validator and not self.verified:
            self.part.unlink(missing_ok=True)  # nothing would tell whether the rest belongs to it
        there = self._there()
        with self._ask(url, there, validator) as response:
            status = response.status_code
            if status not in (200, 206, 416) or (status != 200 and not there):
                raise DownloadError(
                    f"{url} answers {status} {response.reason}; try again later, or fetch it by "
                    f"hand, {self._by_hand}"
                )
            if there and (not validator or _validator(response) in ("", validator)):
                if status == 416 and _total(response) == there:
                    return  # nothing lies behind what has arrived
                if status == 206 and _start(response) == there:
                    return self._take(url, response, there)
            if there:
                log.info("%s cannot be resumed by its server, starting anew", self.part.name)
                self.part.unlink()
            if status == 200:
                return self._take(url, response, 0)
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
                    f"{url} leads to {target}, which is not encrypted; fetch it by hand, "
                    f"{self._by_hand}"
                )
            url = target
        raise DownloadError(f"{url} leads from address to address; try again later")

    def _take(self, url: str, response: requests.Response, there: int) -> None:
        """Append what comes to `part`, at most a chunk more than was promised."""
        total, file = _total(response), self.part.with_suffix("").name
        limit, free = total, shutil.disk_usage(self.part.parent).free
        if limit is None:
            limit = _LARGEST
        elif limit > _LARGEST:
            raise DownloadError(f"{url} promises {limit:,} bytes, more than any dataset; try again")
        elif limit - there > free:
            raise DownloadError(
                f"{self.part.parent} has {free:,} bytes free, but {limit - there:,} are needed for "
                f"{file}, and as much again to unpack it; make room or choose another data root"
            )
        self._remember(url, _validator(response))
        bar = tqdm(desc=file, total=total, initial=there, unit="B", unit_scale=True)
        with bar, self.part.open("ab" if there else "wb") as stream:
            for chunk in response.raw.stream(_CHUNK, decode_content=False):
                there += stream.write(chunk)
                bar.update(len(chunk))
                if there > limit:
                    break
        if there > limit:
            self.part.unlink()
            raise DownloadError(f"{url} sent more than the {limit:,} bytes it may have; try again")
        if total is not None and there < total:
            raise self._broke_off(url, f"{there:,} of {total:,} bytes")

    def _noted(self, url: str) -> str:
        """Return which version of the file the part is of; empty if that is not known."""
        try:
            noted, _, validator = self.note.read_text(encoding="utf-8").partition("\n")
        except (OSError, ValueError):
            return ""
        return validator if noted == url else ""

    def _remember(self, url: str, validator: str) -> None:
        if validator:
            self.note.write_text(f"{url}\n{validator}", encoding="utf-8")
        else:
            self.note.unlink(missing_ok=True)


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
