"""The whole study: a sweep of all notebooks into one run folder, with one HTML report."""

from __future__ import annotations

import contextlib
import datetime
import json
import logging
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from tttlib import __version__, report, sweep
from tttlib.runtime import environment
from tttlib.runtime.clock import now
from tttlib.runtime.files import sha256
from tttlib.sweep import engines, folder_lock, records
from tttlib.sweep.engines import machine
from tttlib.sweep.grid import of_notebook
from tttlib.sweep.orchestrator import run_tasks
from tttlib.sweep.parameter_files import share_out
from tttlib.sweep.task import make_task

log = logging.getLogger(__name__)

MEMORY = 3 * 2**30  # bytes that a notebook with its own parameters stays below
_FOLDERS = ("notebooks", "results", "figures", "tables")
_IDENTITY = ("parameters", "notebooks", "tttlib", "git_sha", "code")


def run_study(
    runs: str | Path = "runs",
    notebooks: Sequence[str | Path] | None = None,
    parameters: Mapping[str, Any] | None = None,
    fresh: bool = False,
    *,
    workers: int | None = None,
    progress: bool = True,
) -> Path:
    """Execute the notebooks, several at once, and write the report.

    Resumes the newest unfinished run (one without index.html) when parameters, notebooks and code
    are the same, skipping executed notebooks; otherwise starts a new one and logs why. Nothing
    begins after a notebook has failed, and those still running are stopped, as they are by Ctrl-C:
    what is finished is kept.

    Parameters
    ----------
    runs
        Folder of the runs. This one gets <runs>/<YYYYmmdd-HHMMSS>/ with notebooks/ (executed),
        results/, figures/, tables/, study.json and at last index.html.
    notebooks
        Names or paths; None: all of notebooks/0*.ipynb.
    parameters
        Each notebook gets those it declares (see `parameter_files`), and `run_dir`, the path of the
        run folder.
    fresh
        Whether to start anew instead of resuming.
    workers
        Notebooks at once; None: one per GPU, else as cores and free memory allow. Cores and GPUs
        are divided among them: two small networks on one thread each get more done than one after
        the other on two.
    progress
        Whether to show progress bars.

    Returns
    -------
    Path
        The report, index.html.

    Raises
    ------
    ValueError
        Before anything runs: for workers below 1 and for a parameter that no notebook declares.
    NotebookError
        When a cell fails, or when the process of a notebook is killed.
    """
    if workers is not None and workers < 1:
        raise ValueError(f"workers must be 1 or more, not {workers}")
    paths = _notebooks(notebooks)
    shares = share_out(paths, parameters or {})
    identity = _identity(paths, parameters or {})
    with _run_folder(Path(runs).resolve(), identity, fresh) as run:
        record, session = read_record(run), uuid.uuid4().hex[:16]
        terms: dict[str, Any] = {"run_dir": run, "progress": progress}
        tasks = [
            make_task(of_notebook(path, shares[path]), _unit(run, path), session, **terms)
            for path in paths
            if not _executed(run, path)
        ]
        n = min(workers, max(1, len(tasks))) if workers else default_workers(len(tasks))
        before, start = record["wall_seconds"], time.perf_counter()

        def ended(unit: dict[str, Any]) -> None:
            name = unit["experiment"].removeprefix("notebook ")
            if unit["state"] != records.DONE:
                error = unit["error"].removeprefix("NotebookError: ")
                named = error.startswith(f"{name}.ipynb")
                raise sweep.NotebookError(error if named else f"{name}.ipynb: {error}")
            seconds = {**record["seconds"], name: round(unit["seconds"], 1)}
            record["seconds"] = dict(sorted(seconds.items()))
            record["wall_seconds"] = round(before + time.perf_counter() - start, 1)
            peaks = (record["peak_memory_bytes"], unit["peak_memory_bytes"])
            record["peak_memory_bytes"] = max((p for p in peaks if p), default=None)
            records.write_json(run / "study.json", record)

        name = f"study, {n} at once" if n > 1 else "study"
        bar: dict[str, Any] = {"desc": name, "unit": "notebook", "disable": not progress}
        with engines.using("serial" if n == 1 else "local", workers=n, folder=run) as engine:
            run_tasks(tasks, engine, ended, deaths=1, total=len(paths), **bar)
        record["environment"] = {**environment.describe(), "notebooks_at_once": n}
        record["finished"] = now()
        records.write_json(run / "study.json", record)
        return report.write(run, record, paths)


def read_record(run: str | Path) -> dict[str, Any]:
    """Read what is known of a run (study.json).

    That is its identity, the seconds of each notebook and of all on the clock, and the peak memory
    of a notebook in bytes.

    Raises
    ------
    ValueError
        If the file is damaged, or was written by a version that kept other things.
    """
    path = Path(run) / "study.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    needed = (*_IDENTITY, "started", "seconds", "wall_seconds", "peak_memory_bytes")
    if lacking := [name for name in needed if not isinstance(record, dict) or name not in record]:
        raise ValueError(f"{path} does not say {', '.join(lacking)}")
    return record


def default_workers(n: int) -> int:
    """Return how many of n notebooks run at once: one per GPU, else as cores and memory allow."""
    room = len(machine.gpus())
    room = room or min(machine.cores(), psutil.virtual_memory().available // MEMORY)
    return max(1, min(n, room))


def _notebooks(names: Sequence[str | Path] | None) -> list[Path]:
    if names is None:
        names = sorted(sweep.notebooks_folder().glob("0*.ipynb"))
    if not names:
        raise ValueError("the study has no notebooks (0*.ipynb)")
    return [sweep.find_notebook(name) for name in names]


def _unit(run: Path, notebook: Path) -> Path:
    """Return the folder of a notebook's record, log and traceback."""
    return run / "units" / notebook.stem


def _executed(run: Path, notebook: Path) -> bool:
    """Whether a notebook is done; a damaged executed copy is set aside (logged)."""
    record = records.read(_unit(run, notebook))
    if record is None or record["state"] != records.DONE:
        return False
    if unfit := records.unfit_files(run, record):
        records.set_aside(_unit(run, notebook), unfit)
    return not unfit


def _identity(paths: list[Path], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return what must be equal for a run to be resumed."""
    sources = sorted(Path(__file__).parents[1].rglob("*.py"))
    return {
        "parameters": json.loads(json.dumps(dict(parameters))),
        "notebooks": {path.name: sha256(path) for path in paths},
        "tttlib": __version__,
        "git_sha": environment.git_state()[0],
        "code": sha256(*sources),
    }


@contextlib.contextmanager
def _run_folder(runs: Path, identity: Mapping[str, Any], fresh: bool) -> Iterator[Path]:
    """Yield the run to resume, else a new one; locked, so that two studies never share a folder."""
    run = None if fresh else _resumable(runs, identity)
    lock = None if run is None else folder_lock.held(run)
    if run is not None:
        words = "is being worked on by another process: a new run starts"
        log.info("resuming %s" if lock else f"%s {words}", run)
    if run is None or lock is None:
        run = _new_run(runs)
        lock = folder_lock.held(run)
        nothing = {"seconds": {}, "wall_seconds": 0.0, "peak_memory_bytes": None}
        records.write_json(run / "study.json", {**identity, "started": now(), **nothing})
    with lock or contextlib.nullcontext():
        yield run


def _resumable(runs: Path, identity: Mapping[str, Any]) -> Path | None:
    begun = [path.parent for path in runs.glob("*/study.json")]
    if not (unfinished := [run for run in begun if not (run / "index.html").exists()]):
        return None
    newest = max(unfinished)
    try:
        record = read_record(newest)
    except ValueError as error:
        log.warning("%s is not resumed, study.json is damaged or old: %s", newest, error)
        return None
    if changed := [name for name in _IDENTITY if record[name] != identity[name]]:
        log.warning("%s is not resumed, changed: %s; a new run starts", newest, ", ".join(changed))
        return None
    return newest


def _new_run(runs: Path) -> Path:
    runs.mkdir(parents=True, exist_ok=True)
    while True:
        run = runs / datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
        try:
            run.mkdir()
        except FileExistsError:  # another study started within this second
            time.sleep(0.2)
            continue
        for name in _FOLDERS:
            (run / name).mkdir()
        return run
