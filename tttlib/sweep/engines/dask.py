"""On a dask cluster, running already or started here."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

from tttlib.sweep.engines.base import Engine, EngineLostError, WorkerDiedError, needed
from tttlib.sweep.engines.machine import environment_of
from tttlib.sweep.task import Task
from tttlib.sweep.worker import run_unit

log = logging.getLogger(__name__)
_RETURN = 20.0  # seconds that a scheduler may be away
_HERE = "127.0.0.1"  # what is started here listens to nobody else


class Dask(Engine):
    """A dask.distributed scheduler that runs already, or one started here with its workers.

    Raises
    ------
    ValueError
        If none answers at the address.
    """

    def __init__(self, workers: int, address: str | None, deaths: int) -> None:
        distributed = self._distributed = needed("distributed")
        _silence("distributed")
        self._cluster = self._start(workers, deaths) if address is None else None
        self._away: float | None = None
        try:
            self._client = distributed.Client(self._cluster or address, set_as_default=False)
        except (OSError, ValueError) as error:
            raise ValueError(f"no dask scheduler answers at {address}: {error}") from error
        threads = self._client.nthreads()
        if any(n > 1 for n in threads.values()):
            log.warning(
                "some dask workers have several threads, and would run as many units in one "
                "process; start them with `dask worker --nthreads 1`"
            )
        # Two for each, so that none waits for the next; workers may still join.
        self.at_once = max(len(threads), workers)
        self.slots = 2 * self.at_once

    def _start(self, workers: int, deaths: int) -> Any:
        """Return a cluster of this machine's processes, which only this machine can reach."""
        share = {
            "host": _HERE,
            "nthreads": 1,
            "memory_limit": 1 / workers,
            "silence_logs": logging.CRITICAL,
        }
        kinds = [
            {"cls": self._distributed.Nanny, "options": {**share, "env": environment}}
            for environment in (environment_of(i, workers) for i in range(workers))
        ]
        scheduler = {
            "host": _HERE,
            "port": 0,
            "dashboard": False,
            "dashboard_address": f"{_HERE}:0",  # or a second one collides
            "allowed_failures": deaths - 1,
        }
        with _children_ignore_ctrl_c():
            return self._distributed.SpecCluster(
                workers=dict(enumerate(kinds)),
                scheduler={"cls": self._distributed.Scheduler, "options": scheduler},
                silence_logs=False,
            )

    def submit(self, tasks: Sequence[Task]) -> list[Any]:
        """Return dask's futures of the tasks."""
        return [self._client.submit(run_unit, task, pure=False) for task in tasks]

    def has_ended(self, future: Any) -> bool:
        """Return whether a future will not change any more; its own `done` leaves out lost ones."""
        return future.status != "pending"

    def check(self) -> None:
        """Raise EngineLostError when the scheduler has been away for too long."""
        if self._client.status == "running":
            self._away = None
            return
        self._away = self._away or time.monotonic()
        if self._client.status == "closed" or time.monotonic() > self._away + _RETURN:
            raise EngineLostError("the dask scheduler is gone")

    def result(self, future: Any) -> dict[str, Any]:
        """Return the record; see `Engine.result`."""
        if future.status in ("cancelled", "lost"):
            raise EngineLostError("the dask scheduler is gone")
        try:
            return future.result(timeout=60)
        except self._distributed.KilledWorker as error:
            raise WorkerDiedError("killed", error.allowed_failures + 1) from error
        except (self._distributed.CancelledError, TimeoutError, OSError) as error:
            raise EngineLostError("the dask scheduler is gone") from error

    def close(self) -> None:
        """End the client, and the cluster if it was started here."""
        with contextlib.suppress(Exception):  # of a scheduler that is gone
            self._client.close(timeout=5)
        if self._cluster is not None:
            with contextlib.suppress(Exception):
                self._cluster.close(timeout=20)


def _silence(name: str) -> None:
    """Keep a package's own talk off the screen: what matters comes back as an exception."""
    for logger in [name, *(n for n in logging.root.manager.loggerDict if n.startswith(f"{name}."))]:
        logging.getLogger(logger).setLevel(logging.CRITICAL)


@contextlib.contextmanager
def _children_ignore_ctrl_c() -> Iterator[None]:
    """Make processes started meanwhile leave Ctrl-C to the sweep: they inherit that."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
