"""In this process, one unit after the other."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from tttlib.sweep.work import run_unit


class Serial:
    """One unit after the other in this process: for debugging, and to compare with."""

    slots = at_once = 1
    arrays = False

    def submit(self, tasks: Sequence[Mapping[str, Any]]) -> list[Any]:
        return [_Call(task) for task in tasks]

    def wait(self, handles: Collection[Any], seconds: float) -> list[Any]:
        return list(handles)

    def result(self, handle: Any) -> dict[str, Any]:
        return run_unit({**handle.task, "worker": False})

    def close(self) -> None:
        pass


class _Call:
    def __init__(self, task: Mapping[str, Any]) -> None:
        self.task = task
