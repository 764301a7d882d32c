"""One process at a time in a folder: the lock of a dead process is free at once."""

from __future__ import annotations

import contextlib
import json
import os
import platform
from pathlib import Path

from filelock import FileLock, Timeout

from tttlib.runtime.clock import now


def hold(folder: Path, *, wait: bool = False) -> contextlib.AbstractContextManager | None:
    """Hold a folder until the context returned is left.

    Parameters
    ----------
    folder
        The folder, which must exist.
    wait
        Whether to wait for another process that holds it. Otherwise the answer is None then, and
        a lock that is had names its holder (`holder`).
    """
    lock = FileLock(folder / ".lock", thread_local=False)
    if wait:
        return lock.acquire(poll_interval=0.2)
    try:
        held = lock.acquire(timeout=0)
    except Timeout:
        return None
    try:
        owner = {"pid": os.getpid(), "host": platform.node(), "since": now()}
        (folder / ".lock.json").write_text(json.dumps(owner), encoding="utf-8")
    except BaseException:
        lock.release()
        raise
    return held


def holder(folder: Path) -> str:
    """Say in words who holds a folder."""
    try:
        owner = json.loads((folder / ".lock.json").read_text(encoding="utf-8"))
        return f"process {owner['pid']} on {owner['host']}, since {owner['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
