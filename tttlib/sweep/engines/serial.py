"""In this process, one unit after the other."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from tttlib.sweep.engines.base import Engine
from tttlib.sweep.task import Task
from tttlib.sweep.worker import run_unit


@dataclasses.dataclass(frozen=True, eq=False)
class _Call:
    """A future that runs its task when the result is asked for."""

    task: Task

    def done(self) -> bool:
        return True

    def result(self) -> dict[str, Any]:
        return run_unit(dataclasses.replace(self.task, worker=False))


class Serial(Engine):
    """One unit after the other in this process: for debugging, and to compare with."""

    def submit(self, tasks: Sequence[Task]) -> list[Any]:
        """Return futures that run their tasks when asked for the result."""
        return [_Call(task) for task in tasks]
