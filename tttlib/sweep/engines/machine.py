"""What this machine has, and how it is divided among workers."""

from __future__ import annotations

import os
import shutil
import subprocess


def default_workers() -> int:
    """One per GPU, else half the cores."""
    return len(gpus()) or max(1, cores() // 2)


def cores() -> int:
    """Processor cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def gpus() -> list[str]:
    """What CUDA_VISIBLE_DEVICES may name, found without torch."""
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [gpu.strip() for gpu in visible.split(",") if gpu.strip() not in ("", "-1")]
    if shutil.which("nvidia-smi") is None:
        return []
    command = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return []
    return told.stdout.split()


def environment_of(worker: int, workers: int) -> dict[str, str]:
    """Variables of worker `worker` of `workers`: its GPU and its share of the threads.

    Fewer threads that the user asked for stay fewer.
    """
    share = max(1, cores() // workers)
    found = {}
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        asked = os.environ.get(name, "")
        found[name] = str(min(share, int(asked)) if asked.isdigit() else share)
    if devices := gpus():
        found["CUDA_VISIBLE_DEVICES"] = devices[worker % len(devices)]
    return found
