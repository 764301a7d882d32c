"""As jobs of SLURM."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tttlib.sweep.engines.base import Engine, WorkerDiedError, needed
from tttlib.sweep.engines.machine import default_workers
from tttlib.sweep.task import Task
from tttlib.sweep.worker import run_unit

_A_DAY = 24 * 60
_ARRAY = 1000  # SLURM's usual largest job array, less one


class Slurm(Engine):
    """SLURM jobs by submitit, one a unit, in arrays.

    Raises
    ------
    ValueError
        Where SLURM has no sbatch, and for options that submitit refuses.
    """

    def __init__(self, workers: int | None, folder: Path, options: Mapping[str, Any]) -> None:
        submitit = needed("submitit")
        settings = dict(options)
        cluster = settings.pop("cluster", "slurm")
        if cluster == "slurm" and shutil.which("sbatch") is None:
            raise ValueError("engine 'slurm' needs sbatch, which is not on this machine's path")
        if "partition" in settings:
            settings["slurm_partition"] = settings.pop("partition")
        self._minutes = settings.pop("timeout_min", None)
        self._executor = submitit.AutoExecutor(folder / "jobs" / "%j", cluster=cluster)
        if cluster == "local":  # starts everything at once
            self.slots = self.at_once = workers or default_workers()
        else:
            self.slots, self.at_once = _ARRAY, workers or _ARRAY
            settings.setdefault("slurm_array_parallelism", self.at_once)
        self.arrays = cluster == "slurm"
        settings.setdefault("name", "tttlib")
        try:
            self._executor.update_parameters(**settings)
        except (TypeError, ValueError, AssertionError, NameError) as error:
            raise ValueError(f"submitit refuses these options of jobs: {error}") from error
        self._jobs: list[Any] = []

    def submit(self, tasks: Sequence[Task]) -> list[Any]:
        """Return submitit's jobs of the tasks, one array."""
        limit = tasks[0].timeout
        minutes = _A_DAY if limit is None else math.ceil((limit + 60) / 60)
        self._executor.update_parameters(timeout_min=self._minutes or minutes)
        jobs = list(self._executor.map_array(run_unit, tasks))
        self._jobs += jobs
        return jobs

    def result(self, future: Any) -> dict[str, Any]:
        """Return the record; WorkerDiedError for a job that left none."""
        self._jobs.remove(future)
        try:
            return future.result()
        except Exception as error:  # submitit's own, or what the job's pickle holds
            lines = [line for line in str(error).splitlines() if line.strip()]
            raise WorkerDiedError(lines[0] if lines else type(error).__name__) from error

    def close(self) -> None:
        """Cancel the jobs that have not ended."""
        for job in self._jobs:
            job.cancel(check=False)
