"""One process at a time: a locked file, which frees itself when its holder dies."""

from __future__ import annotations

import errno
import json
import logging
import os
import platform
import sys
from pathlib import Path
from typing import IO

from tttlib.runtime.clock import now

log = logging.getLogger(__name__)

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


def acquire(path: Path) -> IO[str] | None:
    """Hold `path` until the file returned is closed; None while another process holds it.

    The file names its holder (`owner`). The operating system drops the lock of a dead process, so
    there are no stale ones. Where a file system has no locks that is logged, and nothing is held.
    """
    file = path.open("a+", encoding="utf-8")
    try:
        if not _locked(file, path):
            file.close()
            return None
        file.truncate(0)
        file.write(json.dumps({"pid": os.getpid(), "host": platform.node(), "since": now()}))
        file.flush()
    except BaseException:
        file.close()
        raise
    return file


def owner(path: Path) -> str:
    """Who holds `path`, in words."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return f"process {found['pid']} on {found['host']}, since {found['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


def _locked(file: IO[str], path: Path) -> bool:
    if sys.platform == "win32":
        return True
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        log.warning("%s: this file system has no locks; see to it that one process runs", path)
    return True
