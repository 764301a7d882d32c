"""The device that work runs on, and the number format that is faster there."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def best_device() -> torch.device:
    """Return the first CUDA device, or the CPU if there is none."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def read_back(x: Tensor) -> Callable[[], list[Any]]:
    """Start to copy a tensor of any shape to the host, and return a function that waits for it.

    Work that is queued on a GPU in between keeps it busy while the host waits.

    Returns
    -------
    callable
        Waits for the copy and returns the values as (nested) lists.
    """
    if x.device.type != "cuda":
        return x.tolist
    host = torch.empty(x.shape, dtype=x.dtype, pin_memory=True)
    host.copy_(x, non_blocking=True)
    arrived = torch.cuda.Event()
    arrived.record()

    def wait() -> list[Any]:
        arrived.synchronize()
        return host.tolist()

    return wait


def synchronise(device: torch.device) -> None:
    """Wait until everything that is queued on a CUDA device is done; other devices never queue."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def bf16_helps(device: torch.device) -> bool:
    """Return whether matrix products in bfloat16 are much faster than in float32 on this device.

    They are if a product takes less than 0.7 of the float32 time, measured once per device.
    Processors without bfloat16 units emulate it many times slower, so small products are compared
    first. The environment variable ``TTTLIB_BF16`` decides instead where it is set: "1" for
    bfloat16, "0" for float32.

    Raises
    ------
    ValueError
        If ``TTTLIB_BF16`` is set to anything else.
    """
    choice = os.environ.get("TTTLIB_BF16", "")
    if choice not in ("", "0", "1"):
        raise ValueError(f"TTTLIB_BF16 must be 0 or 1 (or not set: measured), not {choice!r}")
    return choice == "1" if choice else _bf16_is_faster(device)


@functools.cache
def _bf16_is_faster(device: torch.device) -> bool:
    sizes = ((torch.bfloat16, torch.float32, rows) for rows in (64, 1024))
    return all(_seconds(a, n, device) <= 0.7 * _seconds(b, n, device) for a, b, n in sizes)


def _seconds(dtype: torch.dtype, rows: int, device: torch.device) -> float:
    a = torch.randn(rows, 384, device=device).to(dtype)
    b = torch.randn(384, 384, device=device).to(dtype)
    times = []
    for _ in range(4):
        start = time.perf_counter()
        product = a @ b
        product[0, 0].item()  # waits for the device
        times.append(time.perf_counter() - start)
    return min(times[1:])
