"""As jobs of SLURM."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from tttlib.sweep.engines.interface import WorkerDiedError, needed
from tttlib.sweep.engines.machine import default_workers
from tttlib.sweep.work import run_unit

_A_DAY = 24 * 60
_ARRAY = 1000  # SLURM's usual largest job array, less one


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
        """The record; WorkerDiedError for a job that left none."""
        self._jobs.remove(handle)
        try:
            return handle.result()
        except Exception as error:  # submitit's own, or what the job's pickle holds
            lines = [line for line in str(error).splitlines() if line.strip()]
            raise WorkerDiedError(lines[0] if lines else type(error).__name__) from error

    def close(self) -> None:
        for job in self._jobs:
            job.cancel(check=False)
