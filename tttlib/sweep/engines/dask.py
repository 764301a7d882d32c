"""On a dask cluster, running already or started here."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from tttlib.sweep.engines.interface import EngineLostError, WorkerDiedError, needed
from tttlib.sweep.engines.machine import environment_of
from tttlib.sweep.work import run_unit

log = logging.getLogger(__name__)
_RETURN = 20.0  # seconds that a scheduler may be away


class Dask:
    """A dask.distributed scheduler that runs already, or one started here with its workers.

    Raises ValueError when none answers at the address.
    """

    arrays = False

    def __init__(self, workers: int, address: str | None, deaths: int) -> None:
        distributed = self._distributed = needed("distributed")
        _silence("distributed")
        self._cluster = None
        self._away: float | None = None
        if address is None:
            share = {"nthreads": 1, "memory_limit": 1 / workers, "silence_logs": logging.CRITICAL}
            kinds = [
                {"cls": distributed.Nanny, "options": {**share, "env": environment}}
                for environment in (environment_of(i, workers) for i in range(workers))
            ]
            with _children_ignore_ctrl_c():
                self._cluster = distributed.SpecCluster(
                    workers=dict(enumerate(kinds)),
                    scheduler={
                        "cls": distributed.Scheduler,
                        "options": {
                            "dashboard": False,
                            "dashboard_address": "127.0.0.1:0",  # or a second one collides
                            "host": "127.0.0.1",
                            "port": 0,
                            "allowed_failures": deaths - 1,
                        },
                    },
                    silence_logs=False,
                )
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

    def submit(self, tasks: Sequence[Mapping[str, Any]]) -> list[Any]:
        return [self._client.submit(run_unit, task, pure=False) for task in tasks]

    def wait(self, handles: Collection[Any], seconds: float) -> list[Any]:
        end = time.monotonic() + seconds
        while True:
            self._check()
            if done := [future for future in handles if future.status != "pending"]:
                return done
            if time.monotonic() > end:
                return []
            time.sleep(0.01)

    def _check(self) -> None:
        """EngineLostError when the scheduler has been away for too long."""
        if self._client.status == "running":
            self._away = None
            return
        self._away = self._away or time.monotonic()
        if self._client.status == "closed" or time.monotonic() > self._away + _RETURN:
            raise EngineLostError("the dask scheduler is gone")

    def result(self, handle: Any) -> dict[str, Any]:
        """The record; WorkerDiedError after too many deaths, EngineLostError with no scheduler."""
        if handle.status in ("cancelled", "lost"):
            raise EngineLostError("the dask scheduler is gone")
        try:
            return handle.result(timeout=60)
        except self._distributed.KilledWorker as error:
            raise WorkerDiedError("killed", error.allowed_failures + 1) from error
        except (self._distributed.CancelledError, TimeoutError, OSError) as error:
            raise EngineLostError("the dask scheduler is gone") from error

    def close(self) -> None:
        with contextlib.suppress(Exception):  # of a scheduler that is gone
            self._client.close(timeout=5)
        if self._cluster is not None:
            with contextlib.suppress(Exception):
                self._cluster.close(timeout=20)


def _silence(name: str) -> None:
    """Nothing of a package's own talk on the screen: what matters comes back as an exception."""
    for logger in [name, *(n for n in logging.root.manager.loggerDict if n.startswith(f"{name}."))]:
        logging.getLogger(logger).setLevel(logging.CRITICAL)


@contextlib.contextmanager
def _children_ignore_ctrl_c() -> Iterator[None]:
    """Processes started meanwhile leave Ctrl-C to the sweep: they inherit that it is ignored."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
