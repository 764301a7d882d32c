"""What this machine has, and how it is divided among workers."""

from __future__ import annotations

import os
import shutil
import subprocess


def default_workers() -> int:
    """Return one per GPU, else half the cores."""
    return len(gpus()) or max(1, cores() // 2)


def cores() -> int:
    """Return the number of processor cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def gpus() -> list[str]:
    """Return what CUDA_VISIBLE_DEVICES may name, found without torch."""
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [gpu.strip() for gpu in visible.split(",") if gpu.strip() not in ("", "-1")]
    if shutil.which("nvidia-smi") is None:
        return []
    command = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return []
    return answer.stdout.split()


def environment_of(worker: int, workers: int) -> dict[str, str]:
    """Return the variables of worker number `worker`: its GPU and its share of the threads.

    A smaller number of threads that the user asked for stays.
    """
    share = max(1, cores() // workers)
    variables = {}
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        asked = os.environ.get(name, "")
        variables[name] = str(min(share, int(asked)) if asked.isdigit() else share)
    if devices := gpus():
        variables["CUDA_VISIBLE_DEVICES"] = devices[worker % len(devices)]
    return variables
