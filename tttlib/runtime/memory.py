"""Memory of this process: allocated on a GPU, resident on the CPU; and keeping what was freed."""

from __future__ import annotations

import ctypes
import functools
import logging
import os
from pathlib import Path

import torch

log = logging.getLogger(__name__)


# Of malloc.h: what mallopt sets.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4


@functools.cache
def keep_freed() -> bool:
    """Let this process keep freed memory for the next batch instead of giving it back.

    The C library of Linux maps every large tensor anew and returns it when it is freed, so each
    batch on a CPU pays for clearing all its pages: a third of the time and more at 224 pixels, a
    tenth to a fourth for small networks. Afterwards the process stays as large as it was at its
    peak. Numbers do not change. Called by the rooms that compute, once; nothing is done for another
    C library, or where the environment has its own mind (a variable MALLOC_… or GLIBC_TUNABLES, or
    LD_PRELOAD with another allocator).

    Returns
    -------
    bool
        Whether it was done.
    """
    minds = ("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD")
    if any(value and name.startswith(minds) for name, value in os.environ.items()):
        return False
    try:
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018 — of the GNU C library alone
    except (OSError, TypeError, AttributeError):
        return False
    settings = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1), (_TOP_PAD, 64 * 2**20))
    return all([library.mallopt(name, value) == 1 for name, value in settings])


def reset_peak(device: torch.device) -> None:
    """Count the peak from now on, or from the start of the process where the system cannot."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        log.info("peak memory counts from the start of the process here")


def peak(device: torch.device) -> int:
    """Return the bytes at the peak, or 0 where the system does not tell."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else _status("VmHWM")


def now(device: torch.device) -> int:
    """Return the bytes at this moment, or 0 where the system does not tell."""
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else _status("VmRSS")


def _status(name: str) -> int:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(name)), 0)
