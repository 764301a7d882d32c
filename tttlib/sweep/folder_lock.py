"""One process at a time in a folder: the lock of a dead process is free at once."""

from __future__ import annotations

import json
import os
import platform
from contextlib import AbstractContextManager
from pathlib import Path

from filelock import FileLock, Timeout

from tttlib.runtime.clock import now


def held(folder: Path) -> AbstractContextManager | None:
    """Hold a folder until the context returned is left; None while another process holds it."""
    lock = FileLock(folder / ".lock", thread_local=False)
    try:
        context = lock.acquire(timeout=0)
    except Timeout:
        return None
    try:
        owner = {"pid": os.getpid(), "host": platform.node(), "since": now()}
        (folder / ".lock.json").write_text(json.dumps(owner), encoding="utf-8")
    except BaseException:
        lock.release()
        raise
    return context


def waited_for(folder: Path) -> AbstractContextManager:
    """Hold a folder, as soon as no other process does, until the context returned is left."""
    return FileLock(folder / ".lock", thread_local=False).acquire(poll_interval=0.2)


def holder(folder: Path) -> str:
    """Say in words who holds a folder."""
    try:
        owner = json.loads((folder / ".lock.json").read_text(encoding="utf-8"))
        return f"process {owner['pid']} on {owner['host']}, since {owner['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
