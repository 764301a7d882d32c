"""On this machine's cores and GPUs, in loky processes."""

from __future__ import annotations

import math
import os
import re
import signal
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor
from concurrent.futures import wait as wait_for
from typing import Any

from tttlib.sweep.engines.interface import UnitLateError, WorkerDiedError, needed
from tttlib.sweep.engines.machine import environment_of
from tttlib.sweep.work import run_unit


class Local:
    """loky processes, each an executor of its own: a dying one takes no other unit with it."""

    arrays = False

    def __init__(self, workers: int) -> None:
        self._loky = needed("loky")
        self.slots = self.at_once = workers
        self._environments = [environment_of(i, workers) for i in range(workers)]
        self._executors: list[Any] = [None] * workers
        self._busy: dict[Any, tuple[int, float]] = {}  # future -> slot, when it must have ended
        self._late: set[Any] = set()

    def submit(self, tasks: Sequence[Mapping[str, Any]]) -> list[Any]:
        return [self._submit(task) for task in tasks]

    def _submit(self, task: Mapping[str, Any]) -> Any:
        taken = {slot for slot, _ in self._busy.values()}
        slot = next(i for i in range(self.slots) if i not in taken)
        if self._executors[slot] is None:
            environment = self._environments[slot]
            self._executors[slot] = self._loky.ProcessPoolExecutor(
                1, initializer=begin, initargs=(os.getpid(),), env=environment
            )
        future = self._executors[slot].submit(run_unit, task)
        limit = task["timeout"]
        end = math.inf if limit is None else time.monotonic() + limit + 4 * task["grace"]
        self._busy[future] = (slot, end)
        return future

    def wait(self, handles: Collection[Any], seconds: float) -> list[Any]:
        for future, (slot, end) in self._busy.items():
            if time.monotonic() > end and not future.done():  # deaf to its own timeout
                self._late.add(future)
                self._end(slot)
        done, _ = wait_for(handles, seconds, FIRST_COMPLETED)
        return list(done)

    def result(self, handle: Any) -> dict[str, Any]:
        """The record; UnitLateError where the timeout was not heeded, else WorkerDiedError."""
        slot, _ = self._busy.pop(handle)
        try:
            return handle.result()
        except (BrokenExecutor, RuntimeError) as error:  # loky's own derive from either
            self._end(slot)
            if handle in self._late:
                raise UnitLateError from error
            text = " ".join(str(error).split())
            found = re.search(r"exit codes of the workers are \{(.*?)\}", text)
            raise WorkerDiedError(found[1] if found else text) from error

    def _end(self, slot: int, kill: bool = True) -> None:
        if (executor := self._executors[slot]) is not None:
            self._executors[slot] = None
            executor.shutdown(wait=True, kill_workers=kill)

    def close(self) -> None:
        busy = {slot for slot, _ in self._busy.values()}
        for slot in range(self.slots):
            self._end(slot, kill=slot in busy)


def begin(parent: int) -> None:
    """A worker's first act: leave Ctrl-C to the sweep, and end when the sweep has."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
