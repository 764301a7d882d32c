"""What a sweep needs of an engine, and how the loss of a worker is told."""

from __future__ import annotations

import importlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol


class WorkerDiedError(Exception):
    """The process that ran a unit is gone; `times` says how often that has happened."""

    def __init__(self, how: str, times: int = 1) -> None:
        super().__init__(how)
        self.times = times


class UnitLateError(Exception):
    """The process that ran a unit did not heed the timeout and was killed."""


class EngineLostError(Exception):
    """The scheduler is gone: nothing can be said of the units in flight."""


class Engine(Protocol):
    """What a sweep needs of an engine; a handle is anything hashable.

    slots    tasks in flight at most
    at_once  of these, how many may be running
    arrays   tasks are best submitted all at once: nothing new while some are in flight
    """

    slots: int
    at_once: int
    arrays: bool

    def submit(self, tasks: Sequence[Mapping[str, Any]]) -> list[Any]:
        """Handles of the tasks, which run as soon as there is room."""

    def wait(self, handles: Collection[Any], seconds: float) -> list[Any]:
        """Those that have ended; after `seconds` at the latest."""

    def result(self, handle: Any) -> dict[str, Any]:
        """The record that `run_unit` returned.

        Raises WorkerDiedError, UnitLateError or EngineLostError.
        """

    def close(self) -> None:
        """End the workers, at once."""


def needed(package: str) -> Any:
    """An optional package. Raises ValueError that names the extra which installs it."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ValueError(
            f"this engine needs the package {package}; install it with pip install "
            "'tttlib[cluster]'"
        ) from error
