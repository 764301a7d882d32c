"""Where units run: in this process, on this machine's cores and GPUs, on dask, or on SLURM.

An engine has three verbs: `submit` tasks, `wait` for some to end, and the `result` of one. `using`
opens one and ends its workers, whatever happens.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import math
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor
from concurrent.futures import wait as wait_for
from pathlib import Path
from typing import Any, Protocol

from tttlib.sweep.work import run_unit

log = logging.getLogger(__name__)

NAMES = ("local", "dask", "slurm", "serial")
_A_DAY = 24 * 60
_ARRAY = 1000  # SLURM's usual largest job array, less one
_RETURN = 20.0  # seconds that a scheduler may be away


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


@contextlib.contextmanager
def using(
    name: str,
    *,
    workers: int | None = None,
    folder: Path,
    address: str | None = None,
    options: Mapping[str, Any] | None = None,
    deaths: int = 3,
) -> Iterator[Engine]:
    """An engine, whose workers are gone afterwards.

    workers  processes of "local" and of a dask cluster started here (None: one per GPU, else half
             the cores); jobs of SLURM that run at once. Threads are divided among them.
    folder   for files of the jobs (SLURM)
    address  of a running dask scheduler
    deaths   of a unit's worker, until a dask cluster started here gives the unit up
    options  of submitit: partition, cluster="local" and what `update_parameters` takes
    Raises ValueError for an unknown name and for packages that are not installed.
    """
    if name not in NAMES:
        raise ValueError(f"unknown engine {name!r}; known are {', '.join(NAMES)}")
    if workers is not None and workers < 1:
        raise ValueError(f"workers must be 1 or more, not {workers}")
    if address is not None and name != "dask":
        raise ValueError(f"an address is for engine 'dask', not {name!r}")
    if options and name != "slurm":
        raise ValueError(f"options of jobs are for engine 'slurm', not {name!r}")
    n = workers or default_workers()
    engine: Engine
    if name == "serial":
        engine = Serial()
    elif name == "local":
        engine = Local(n)
    elif name == "dask":
        engine = Dask(n, address, deaths)
    else:
        engine = Slurm(workers, folder, options or {})
    try:
        yield engine
    finally:
        engine.close()


def default_workers() -> int:
    """One per GPU, else half the cores."""
    return len(gpus()) or max(1, cores() // 2)


def cores() -> int:
    """Processor cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def gpus() -> list[str]:
    """What CUDA_VISIBLE_DEVICES may name, found without torch."""
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [gpu.strip() for gpu in visible.split(",") if gpu.strip() not in ("", "-1")]
    if shutil.which("nvidia-smi") is None:
        return []
    command = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return []
    return told.stdout.split()


def environment_of(worker: int, workers: int) -> dict[str, str]:
    """Variables of worker `worker` of `workers`: its GPU and its share of the threads.

    Fewer threads that the user asked for stay fewer.
    """
    share = max(1, cores() // workers)
    found = {}
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        asked = os.environ.get(name, "")
        found[name] = str(min(share, int(asked)) if asked.isdigit() else share)
    if devices := gpus():
        found["CUDA_VISIBLE_DEVICES"] = devices[worker % len(devices)]
    return found


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
                1, initializer=_begin, initargs=(os.getpid(),), env=environment
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


class Slurm:
    """SLURM jobs by submitit, one a unit, in arrays.

    Raises ValueError where SLURM has no sbatch, and for options that submitit refuses.
    """

    def __init__(self, workers: int | None, folder: Path, options: Mapping[str, Any]) -> None:
        submitit = self._submitit = needed("submitit")
        given = dict(options)
        cluster = given.pop("cluster", "slurm")
        if cluster == "slurm" and shutil.which("sbatch") is None:
            raise ValueError("engine 'slurm' needs sbatch, which is not on this machine's path")
        if "partition" in given:
            given["slurm_partition"] = given.pop("partition")
        self._minutes = given.pop("timeout_min", None)
        self._executor = submitit.AutoExecutor(folder / "jobs" / "%j", cluster=cluster)
        if cluster == "local":  # starts everything at once
            self.slots = self.at_once = workers or default_workers()
        else:
            self.slots, self.at_once = _ARRAY, workers or _ARRAY
            given.setdefault("slurm_array_parallelism", self.at_once)
        self.arrays = cluster == "slurm"
        given.setdefault("name", "tttlib")
        try:
            self._executor.update_parameters(**given)
        except (TypeError, ValueError, AssertionError, NameError) as error:
            raise ValueError(f"submitit refuses these options of jobs: {error}") from error
        self._jobs: list[Any] = []

    def submit(self, tasks: Sequence[Mapping[str, Any]]) -> list[Any]:
        limit = tasks[0]["timeout"]
        minutes = _A_DAY if limit is None else math.ceil((limit + 60) / 60)
        self._executor.update_parameters(timeout_min=self._minutes or minutes)
        jobs = list(self._executor.map_array(run_unit, tasks))
        self._jobs += jobs
        return jobs

    def wait(self, handles: Collection[Any], seconds: float) -> list[Any]:
        end = time.monotonic() + seconds
        while not (done := [job for job in handles if job.done()]) and time.monotonic() < end:
            time.sleep(0.05)
        return done

    def result(self, handle: Any) -> dict[str, Any]:
        self._jobs.remove(handle)
        try:
            return handle.result()
        except Exception as error:  # submitit's own, or what the job's pickle holds
            lines = [line for line in str(error).splitlines() if line.strip()]
            raise WorkerDiedError(lines[0] if lines else type(error).__name__) from error

    def close(self) -> None:
        for job in self._jobs:
            job.cancel(check=False)


def needed(package: str) -> Any:
    """An optional package. Raises ValueError that names the extra which installs it."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ValueError(
            f"this engine needs the package {package}; install it with pip install "
            "'tttlib[cluster]'"
        ) from error


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


def _begin(parent: int) -> None:
    """A worker's first act: leave Ctrl-C to the sweep, and end when the sweep has."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
