"""Where units run: in this process, on this machine's cores and GPUs, on dask, or on SLURM.

An engine has three verbs: `submit` tasks, `wait` for some to end, and the `result` of one. `using`
opens one and ends its workers, whatever happens.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tttlib.sweep.engines.base import Engine, EngineLostError, UnitLateError, WorkerDiedError
from tttlib.sweep.engines.dask import Dask
from tttlib.sweep.engines.local import Local
from tttlib.sweep.engines.machine import default_workers
from tttlib.sweep.engines.serial import Serial
from tttlib.sweep.engines.slurm import Slurm

__all__ = ["NAMES", "Engine", "EngineLostError", "UnitLateError", "WorkerDiedError", "using"]
NAMES = ("local", "dask", "slurm", "serial")


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
    """Open an engine, whose workers are gone afterwards.

    Parameters
    ----------
    name
        One of `NAMES`.
    workers
        Processes of "local" and of a dask cluster started here (None: one per GPU, else half the
        cores); jobs of SLURM that run at once. Threads are divided among them.
    folder
        For files of the jobs (SLURM).
    address
        Of a dask scheduler that runs already.
    options
        Of submitit: partition, cluster="local" and what `update_parameters` takes.
    deaths
        Of a unit's worker, until a dask cluster started here gives the unit up.

    Raises
    ------
    ValueError
        For an unknown name, settings of another engine, and packages that are not installed.
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
    make: dict[str, Callable[[], Engine]] = {
        "local": lambda: Local(n),
        "dask": lambda: Dask(n, address, deaths),
        "slurm": lambda: Slurm(workers, folder, options or {}),
        "serial": Serial,
    }
    with contextlib.closing(make[name]()) as engine:
        yield engine
