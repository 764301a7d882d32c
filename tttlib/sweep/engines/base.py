"""What a sweep needs of an engine, and how the loss of a worker is told."""

from __future__ import annotations

import importlib
import time
from collections.abc import Collection, Sequence
from typing import Any

from tttlib.sweep.task import Task


class WorkerDiedError(Exception):
    """The process that ran a unit is gone; `times` says how often that has happened."""

    def __init__(self, how: str, times: int = 1) -> None:
        super().__init__(how)
        self.times = times


class UnitLateError(Exception):
    """The process that ran a unit did not heed the timeout and was killed."""


class EngineLostError(Exception):
    """The scheduler is gone: nothing can be said of the units in flight."""


class Engine:
    """Runs tasks somewhere; its futures have `done` and `result` as in `concurrent.futures`.

    Attributes
    ----------
    slots
        Tasks in flight at most.
    at_once
        Of these, how many may be running.
    arrays
        Whether tasks are best submitted all at once: nothing new while some are in flight.
    """

    slots = at_once = 1
    arrays = False

    def submit(self, tasks: Sequence[Task]) -> list[Any]:
        """Return futures of the tasks, which run as soon as there is room."""
        raise NotImplementedError

    def wait(self, futures: Collection[Any], seconds: float) -> list[Any]:
        """Return the futures that have ended; after `seconds` at the latest."""
        end = time.monotonic() + seconds
        while True:
            self.check()
            done = [future for future in futures if self.has_ended(future)]
            if done or time.monotonic() > end:
                return done
            time.sleep(0.02)

    def has_ended(self, future: Any) -> bool:
        """Return whether a future has a result, or never will."""
        return future.done()

    def check(self) -> None:
        """End what is late; raise EngineLostError when the scheduler is gone."""

    def result(self, future: Any) -> dict[str, Any]:
        """Return the record that `run_unit` returned.

        Raises
        ------
        WorkerDiedError, UnitLateError, EngineLostError
            When the worker or the scheduler is gone.
        """
        return future.result()

    def close(self) -> None:
        """End the workers, at once."""


def needed(package: str) -> Any:
    """Return an optional package.

    Raises
    ------
    ValueError
        If it is not installed; the message names the extra which installs it.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ValueError(
            f"this engine needs the package {package}; install it with pip install "
            "'tttlib[cluster]'"
        ) from error
