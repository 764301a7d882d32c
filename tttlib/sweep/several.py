"""Several notebooks at once, each in a process of its own with its share of the machine.

Two small networks on one thread each get more done than one after the other on two: most of their
operations are too short to be divided among threads.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from tqdm import tqdm

from tttlib import sweep
from tttlib.sweep.engines import machine
from tttlib.sweep.engines.interface import needed
from tttlib.sweep.engines.local import begin
from tttlib.sweep.notebooks import NotebookError

MEMORY = 3 * 2**30  # bytes that a notebook with its own parameters stays below


@dataclass(frozen=True)
class Executed:
    """A notebook that has run: its source, how long it took, and its kernel's peak memory.

    seconds            on the clock, with what ran beside it
    peak_memory_bytes  largest resident set of a kernel so far; None where it is not measured
    """

    path: Path
    seconds: float
    peak_memory_bytes: int | None


def default_workers(n: int) -> int:
    """How many of n notebooks run at once: one per GPU, else as cores and free memory allow."""
    room = len(machine.gpus())
    room = room or min(machine.cores(), psutil.virtual_memory().available // MEMORY)
    return max(1, min(n, room))


def run_notebooks(
    parameters: Mapping[Path, Mapping[str, Any]],
    output_folder: Path,
    *,
    workers: int = 1,
    progress: bool = True,
) -> Iterator[Executed]:
    """Execute notebooks (`run_notebook`), `workers` at once; yields each as it ends.

    parameters  of each notebook, begun in this order; one worker is this process
    Cores and GPUs are divided among the workers. Nothing begins after a notebook has failed, which
    raises its NotebookError, and those still running are stopped, as they are when the iteration
    is left (Ctrl-C): their partial copies stay. Raises NotebookError, too, when a worker is killed.
    """
    if workers == 1:
        for path, given in parameters.items():
            yield _execute(path, output_folder, given, progress, None)
        return
    loky = needed("loky")
    slots = [
        loky.ProcessPoolExecutor(
            1, initializer=begin, initargs=(os.getpid(),), env=machine.environment_of(i, workers)
        )
        for i in range(workers)
    ]
    todo, free = deque(parameters.items()), list(range(workers))
    running: dict[Future[Executed], tuple[int, Path]] = {}
    try:
        while todo or running:
            while todo and free:
                slot, (path, given) = free.pop(0), todo.popleft()
                arguments = (path, output_folder, dict(given), progress, 1 + slot)
                running[slots[slot].submit(_execute, *arguments)] = slot, path
            ended, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in sorted(ended, key=lambda one: one.exception() is not None):
                slot, path = running.pop(future)
                free.append(slot)
                yield _result(future, path)
    finally:
        busy = {slot for slot, _ in running.values()}
        for slot, executor in enumerate(slots):
            executor.shutdown(wait=True, kill_workers=slot in busy)


def _result(future: Future[Executed], path: Path) -> Executed:
    try:
        return future.result()
    except BrokenExecutor as error:
        why = "killed from outside, or out of memory; fewer at once (--workers 1) need less"
        raise NotebookError(f"{path.name}: its process died ({why})") from error


def _execute(
    path: Path, folder: Path, given: Mapping[str, Any], progress: bool, line: int | None
) -> Executed:
    if line is not None:  # a worker; the default lock, of all processes, would outlive its kill
        tqdm.set_lock(threading.RLock())
    start = time.perf_counter()
    sweep.run_notebook(path, folder, given, progress=progress, line=line)
    return Executed(path, round(time.perf_counter() - start, 1), _peak_memory_of_children())


def _peak_memory_of_children() -> int | None:
    """Largest resident set, in bytes, of any kernel that has ended; None where not measured."""
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
