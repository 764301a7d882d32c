"""Memory of this process: allocated on a GPU, resident on the CPU."""

from __future__ import annotations

import logging
from pathlib import Path

import torch

log = logging.getLogger(__name__)


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
