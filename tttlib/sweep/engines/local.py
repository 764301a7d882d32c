"""On this machine's cores and GPUs, in loky processes."""

from __future__ import annotations

import dataclasses
import math
import os
import re
import signal
import threading
import time
from collections.abc import Sequence
from concurrent.futures import BrokenExecutor
from typing import Any

from tttlib.sweep.engines.base import Engine, UnitLateError, WorkerDiedError, needed
from tttlib.sweep.engines.machine import environment_of
from tttlib.sweep.task import Task
from tttlib.sweep.worker import run_unit

_START = 60.0  # seconds that a worker may take to begin


class Local(Engine):
    """loky processes, each an executor of its own: a dying one takes no other unit with it."""

    def __init__(self, workers: int) -> None:
        self._loky = needed("loky")
        self.slots = self.at_once = workers
        self._environments = [environment_of(i, workers) for i in range(workers)]
        self._executors: list[Any] = [None] * workers
        self._busy: dict[Any, int] = {}  # future -> slot
        self._ends: dict[Any, tuple[float, Task]] = {}  # future -> last moment, task
        self._late: set[Any] = set()

    def submit(self, tasks: Sequence[Task]) -> list[Any]:
        """Return futures of the tasks, one for each free worker at most."""
        return [self._submit(task) for task in tasks]

    def _submit(self, task: Task) -> Any:
        slot = next(i for i in range(self.slots) if i not in self._busy.values())
        if self._executors[slot] is None:
            environment = self._environments[slot]
            self._executors[slot] = self._loky.ProcessPoolExecutor(
                1, initializer=begin, initargs=(os.getpid(),), env=environment
            )
        future = self._executors[slot].submit(run_unit, dataclasses.replace(task, line=1 + slot))
        self._busy[future] = slot
        if task.timeout is not None:
            self._ends[future] = (time.time() + _START + _allowed(task), task)
        return future

    def check(self) -> None:
        """Kill the workers that were deaf to their own timeout."""
        for future, (end, task) in list(self._ends.items()):
            if future.done():
                del self._ends[future]
            elif time.time() > min(end, _begun(task) + _allowed(task)):
                del self._ends[future]
                self._late.add(future)
                self._end(self._busy[future])

    def result(self, future: Any) -> dict[str, Any]:
        """Return the record; see `Engine.result`."""
        slot = self._busy.pop(future)
        try:
            return future.result()
        except (BrokenExecutor, RuntimeError) as error:  # loky's own derive from either
            self._end(slot)
            if future in self._late:
                raise UnitLateError from error
            text = " ".join(str(error).split())
            codes = re.search(r"exit codes of the workers are \{(.*?)\}", text)
            raise WorkerDiedError(codes[1] if codes else text) from error

    def _end(self, slot: int, kill: bool = True) -> None:
        if (executor := self._executors[slot]) is not None:
            self._executors[slot] = None
            executor.shutdown(wait=True, kill_workers=kill)

    def close(self) -> None:
        """End the workers: the idle ones in peace, the busy ones by a kill."""
        for slot in range(self.slots):
            self._end(slot, kill=slot in self._busy.values())


def _allowed(task: Task) -> float:
    """Return the seconds that a unit may take, until its process is killed."""
    return (task.timeout or 0) + 4 * task.grace


def _begun(task: Task) -> float:
    """Return when a unit has begun, by the clock; infinity if it has not: workers start slowly."""
    try:
        record = task.folder / "unit.json"
        return record.stat().st_mtime if task.session in record.read_text() else math.inf
    except OSError:
        return math.inf


def begin(parent: int) -> None:
    """Leave Ctrl-C to the sweep and end when the sweep has: a worker's first act."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
