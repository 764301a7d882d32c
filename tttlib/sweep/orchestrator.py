"""A sweep: the units of a grid, run on an engine, each once, with what became of them."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import platform
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from tttlib.runtime.clock import now
from tttlib.sweep import code_identity, engines, fingerprints, folder_lock, records
from tttlib.sweep.grid import Unit, read_grid
from tttlib.sweep.worker import KEPT, STOPPED, code_version, same_code, sources_of

log = logging.getLogger(__name__)

GRACE = 5.0  # seconds that a unit has to stop by itself after its timeout
DEATHS = 3  # of a unit's worker, until the unit counts as failed

Task = dict[str, Any]


class SweepError(Exception):
    """A sweep could not go on; what is done is kept, and the same command resumes."""


@dataclass
class Summary:
    """What became of a sweep's units.

    Attributes
    ----------
    out
        Folder of the sweep.
    total, earlier, done
        Number of units in all, done before this run, and done now.
    failed
        The records of those that failed.
    """

    out: Path
    total: int = 0
    earlier: int = 0
    done: int = 0
    failed: list[dict[str, Any]] = field(default_factory=list)

    def where(self, record: Mapping[str, Any]) -> Path:
        """Return what to look at first: the executed notebook of a failure, else its traceback."""
        folder = unit_folder(self.out, record["key"])
        return next(iter((folder / "notebooks").glob("*.failed.ipynb")), folder / "error.txt")


def unit_folder(out: Path, key: str) -> Path:
    """Return the folder of a unit: unit.json, results/, notebooks/, figures/, tables/."""
    return out / "units" / key


def run_sweep(
    grid: str | Path | Sequence[Unit],
    out: str | Path,
    *,
    engine: str = "local",
    workers: int | None = None,
    timeout: float | None = None,
    retry_failed: bool = False,
    recompute: bool = False,
    keep_old: bool = False,
    address: str | None = None,
    options: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> Summary:
    """Run the units of a grid that are not done yet.

    A unit that fails, hangs or kills its worker (three times) is recorded and the others go on.
    Ctrl-C ends the workers; what is done is kept.

    Parameters
    ----------
    grid
        A grid file, or its units (`read_grid`).
    out
        Folder of the sweep: units/KEY/ for each unit, sweep.json.
    engine, workers, address, options
        Where units run, see `engines.using`.
    timeout
        Seconds that a unit may take.
    retry_failed
        Whether to run again what failed earlier; otherwise it stays as it is.
    recompute, keep_old
        What becomes of finished units whose source files have been edited since: they run again,
        or their rows stay. Neither: they are refused.
    progress
        Whether to show a progress bar.

    Raises
    ------
    ValueError
        Before anything runs: for the grid, missing data, data, weights or code that are not those
        the sweep began with, a folder that cannot be written or that another sweep holds.
    SweepError
        When it cannot go on (full disk, lost scheduler, code edited meanwhile), or when units that
        were done are gone from the disk at the end.
    """
    if timeout is not None and not timeout > 0:
        raise ValueError(f"timeout must be more than 0 seconds, not {timeout}")
    units = read_grid(grid) if isinstance(grid, str | Path) else list(grid)
    out = Path(out).resolve()
    with _held(out):
        units = identified(units)
        check_unchanged(out, units)
        summary, session = Summary(out, len(units)), uuid.uuid4().hex[:16]
        tasks, tables = [], {}
        for unit in units:
            table = sources_of(unit.experiment, unit.notebook, unit.parameters, unit.folder)
            tables[code_identity.digest(table)] = table
            tasks.append(
                task_of(
                    unit,
                    unit_folder(out, unit.key),
                    session,
                    sources=code_identity.digest(table),
                    timeout=timeout,
                    keep_old=keep_old,
                )
            )
        todo = list(_open(out, tasks, tables, retry_failed, recompute, summary))
        run = {"engine": engine, "workers": workers, "host": platform.node()}
        _write_plan(out, units, tables, {**run, "code": code_version(), "started": now()})
        if todo:
            with (
                _bar(len(units), len(todo), progress) as bar,
                engines.using(
                    engine,
                    workers=workers,
                    folder=out,
                    address=address,
                    options=options,
                    deaths=DEATHS,
                ) as opened,
            ):
                run_tasks(todo, opened, lambda record: _count(record, summary), bar, DEATHS)
            _check_on_disk(out, tasks)
    return summary


def read_plan(out: str | Path) -> dict[str, Any]:
    """Read sweep.json: units (key, label, experiment, parameters, …), uses (fingerprints), runs.

    Raises
    ------
    FileNotFoundError
        If there is none.
    ValueError
        If it is damaged.
    """
    path = Path(out) / "sweep.json"
    try:
        plan = json.loads(path.read_text(encoding="utf-8"))
        if not all(isinstance(unit["label"], str) and unit["key"] for unit in plan["units"]):
            raise ValueError("units without a name")
        kept: dict[str, Any] = {name: plan[name] for name in ("units", "uses", "runs")}
        return {**kept, "sources": plan.get("sources", {})}
    except FileNotFoundError as error:
        raise FileNotFoundError(f"no sweep in {out}: it has no sweep.json") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is damaged; delete it and run the sweep again: units that are done stay done"
        ) from error


def task_of(
    unit: Unit,
    folder: Path,
    session: str,
    *,
    run_dir: Path | None = None,
    sources: str = "",
    timeout: float | None = None,
    keep_old: bool = False,
    progress: bool = False,
) -> Task:
    """Return what `worker.run_unit` needs of a unit, in plain values.

    Parameters
    ----------
    unit
        The unit.
    folder
        Gets its record, log and traceback.
    session
        Name of this run of the sweep.
    run_dir
        Folder of its results, notebooks, figures and tables; None: `folder`.
    sources
        Stands for the source files that it uses (`code_identity`); empty: not looked at.
    timeout
        Seconds that it may take.
    keep_old
        Whether rows of other code are used.
    progress
        Whether a notebook shows a bar over its cells.
    """
    return {
        "key": unit.key,
        "label": unit.label,
        "folder": str(folder),
        "run_dir": str(run_dir or folder),
        "experiment": unit.experiment,
        "grid_folder": unit.folder,
        "notebook": unit.notebook,
        "notebook_sha256": unit.notebook and records.sha256(Path(unit.notebook)),
        "parameters": dict(unit.parameters),
        "given": dict(unit.given),
        "uses": dict(unit.uses),
        "sources": sources,
        "timeout": timeout,
        "grace": GRACE,
        "session": session,
        "host": platform.node(),
        "worker": True,
        "keep_old": keep_old,
        "progress": progress,
        "line": None,
    }


def run_tasks(
    tasks: Sequence[Task],
    engine: engines.Engine,
    ended: Callable[[dict[str, Any]], None],
    bar: tqdm,
    deaths: int,
) -> None:
    """Keep an engine busy until all tasks have ended.

    Parameters
    ----------
    tasks
        The tasks (`task_of`), begun in this order.
    engine
        Where they run.
    ended
        Is called with the record of each unit that has ended; done ones come before failed ones.
        What it raises ends the run.
    bar
        Shows the progress.
    deaths
        Of a unit's worker, until the unit counts as failed.

    Raises
    ------
    SweepError
        When the run cannot go on.
    """
    waiting, flying = deque(tasks), dict[Any, Task]()
    counted, failed = Counter[str](), 0
    while waiting or flying:
        n = min(engine.slots - len(flying), len(waiting))
        if n > 0 and not (engine.arrays and flying):
            batch = [waiting.popleft() for _ in range(n)]
            flying.update(zip(engine.submit(batch), batch, strict=True))
        _tell(bar, failed, min(len(flying), engine.at_once))
        try:
            finished = []
            for future in engine.wait(flying, 1.0):
                record = _record_of(flying[future], future, engine, counted, deaths)
                task = flying.pop(future)
                if record is None:
                    waiting.appendleft(task)
                else:
                    finished.append(record)
        except engines.EngineLostError as error:
            raise SweepError(f"{error}; what is done is kept") from error
        for record in sorted(finished, key=lambda one: one["state"] != records.DONE):
            if record["state"] == STOPPED:
                raise SweepError(f"{record['error']}; what is done is kept")
            failed += record["state"] == records.FAILED
            ended(record)
            bar.update(1)
        _tell(bar, failed, min(len(flying), engine.at_once))


def _tell(bar: tqdm, failed: int, running: int) -> None:
    bar.set_postfix(failed=failed, running=running, refresh=False)


def _bar(total: int, todo: int, progress: bool) -> tqdm:
    return tqdm(total=total, initial=total - todo, desc="sweep", unit="unit", disable=not progress)


def _count(record: dict[str, Any], summary: Summary) -> None:
    if record["state"] == records.DONE:
        summary.done += 1
    else:
        summary.failed.append(record)


def _record_of(
    task: Task, future: Any, engine: engines.Engine, counted: Counter[str], deaths: int
) -> dict[str, Any] | None:
    """Return the record of a unit that has ended; None if its worker died and it runs again."""
    try:
        return engine.result(future)
    except engines.UnitLateError:
        return _failure(task, f"took longer than {task['timeout']} s and had to be killed")
    except engines.WorkerDiedError as error:
        folder = Path(task["folder"])
        record = records.read(folder) if folder.is_dir() else None
        ours = record is not None and record["session"] == task["session"]
        if ours and record is not None and record["state"] != records.RUNNING:
            return record
        # dask blames all units that a worker held; those that had not begun are innocent
        counted[task["key"]] += error.times if ours else 1
        times = counted[task["key"]]
        if times < deaths:
            return None
        often = f" {times} times" if times > 1 else ""
        return _failure(
            task,
            f"its worker died ({error}){often}: killed from outside, or out of memory; fewer at "
            "once (--workers 1) need less",
        )


def _failure(task: Task, error: str) -> dict[str, Any]:
    """Write and return the record of a unit that could not do so itself."""
    folder = Path(task["folder"])
    record = {name: task[name] for name in KEPT}
    record |= {"code": code_version(), "host": platform.node(), "finished": now()}
    record |= {"state": records.FAILED, "seconds": None, "error": error, "traceback": ""}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "error.txt").write_text(error, encoding="utf-8")
        records.write(folder, record)
    except OSError as problem:
        return {"state": STOPPED, "error": f"cannot write {folder}: {problem}"}
    return record


@contextlib.contextmanager
def _held(out: Path) -> Iterator[None]:
    """Hold the sweep's folder: made, writable and ours alone."""
    try:
        (out / "units").mkdir(parents=True, exist_ok=True)
        lock = folder_lock.hold(out)
        if lock is not None:
            (out / "units" / f".probe.{os.getpid()}").write_text("writable")
            (out / "units" / f".probe.{os.getpid()}").unlink()
    except OSError as error:
        raise ValueError(f"cannot write {out}: {error.strerror}; name another folder") from error
    if lock is None:
        who = folder_lock.holder(out)
        raise ValueError(f"another sweep is at work in {out} ({who}); wait, or name another folder")
    with lock:
        yield


def identified(units: Sequence[Unit]) -> list[Unit]:
    """Return the units with fingerprints of what they use; every thing is looked at once."""
    fingerprints.forget()
    known: dict[str, dict[str, str]] = {}
    with_uses: list[Unit] = []
    for unit in units:
        same = fingerprints.signature(unit.parameters)
        if same not in known:
            known[same] = fingerprints.uses(unit.parameters)
        with_uses.append(unit.using(known[same]))
    return with_uses


def check_unchanged(out: Path, units: Sequence[Unit]) -> None:
    """Raise ValueError if a sweep began with other data or weights of the same names."""
    if not (out / "sweep.json").exists():
        return
    before, after = read_plan(out)["uses"], _all_uses(units)
    if changed := fingerprints.difference(before, after):
        raise ValueError(
            f"{out} was begun with other files: {changed}. Put the old ones back, or start a new "
            "sweep in another folder: results of both would not be comparable"
        )


def verdict(task: Task) -> tuple[str, dict[str, Any] | None]:
    """Return what is to be done about a unit, and its record.

    The verdict is "done", "failed", "open" (it runs), "damaged" (it runs, because files of a done
    unit are not what they were) or "stale" (it is done, but by other code).
    """
    folder = Path(task["folder"])
    record = records.read(folder) if folder.is_dir() else None
    if record is None or record["state"] == records.RUNNING:
        return "open", record
    if record["state"] == records.FAILED:
        return "failed", record
    if records.unfit_files(folder, record):
        return "damaged", record
    return ("done" if same_code(record, task) else "stale"), record


def _open(
    out: Path,
    tasks: Sequence[Task],
    tables: Mapping[str, Mapping[str, str]],
    retry_failed: bool,
    recompute: bool,
    summary: Summary,
) -> Iterator[Task]:
    """Yield the tasks to run; the others are counted in `summary`."""
    versions: Counter[str] = Counter()
    stale: list[tuple[Task, dict[str, Any]]] = []
    for task in tasks:
        state, record = verdict(task)
        if record is not None and state == "done":
            summary.earlier += 1
            versions[record["code"]] += 1
        elif record is not None and state == "failed" and not retry_failed:
            summary.failed.append(record)
        elif record is not None and state == "stale":
            stale.append((task, record))
            yield task
        else:
            if record is not None and state == "damaged":
                folder = Path(task["folder"])
                records.set_aside(folder, records.unfit_files(folder, record))
            yield task
    if stale and not recompute:
        raise ValueError(_stale(out, stale, tables))
    for code in versions.keys() - {code_version()}:
        log.warning(
            "%d units were computed by code %s, not %s", versions[code], code, code_version()
        )


def _stale(
    out: Path,
    stale: Sequence[tuple[Task, dict[str, Any]]],
    tables: Mapping[str, Mapping[str, str]],
) -> str:
    """Say which sources have changed since units were done, and what can be done about it."""
    known = read_plan(out)["sources"] if (out / "sweep.json").exists() else {}
    (task, record), names = stale[0], ""
    if record.get("sources") in known:
        names = code_identity.changed(known[record["sources"]], tables[task["sources"]])
    elif not record.get("sources") and task["notebook"]:
        names = Path(task["notebook"]).name
    return (
        f"{len(stale)} finished units in {out} were computed by other code "
        f"({record['code']}); edited since: {names or 'its source files'}. Run them again with "
        "--recompute, keep their rows with --keep-old, or name another folder"
    )


def _check_on_disk(out: Path, tasks: Sequence[Task]) -> None:
    """Raise SweepError when units that ended well are no longer on the disk."""
    gone = [task["label"] for task in tasks if verdict(task)[0] not in ("done", "failed")]
    if gone:
        raise SweepError(
            f"{len(gone)} of {len(tasks)} units are no longer whole in {out} (the first: "
            f"{gone[0]}): something else deletes or changes files there; the same command runs "
            "them again"
        )


def _all_uses(units: Sequence[Unit]) -> dict[str, str]:
    return {name: value for unit in units for name, value in unit.uses.items()}


def _write_plan(
    out: Path,
    units: Sequence[Unit],
    tables: Mapping[str, Mapping[str, str]],
    run: Mapping[str, Any],
) -> None:
    """Write sweep.json; fingerprints and sources that an earlier grid saw are kept."""
    known: dict[str, Any] = {"uses": {}, "runs": [], "sources": {}}
    if (out / "sweep.json").exists():
        known = read_plan(out)
    listed = [
        {
            "key": unit.key,
            "label": unit.label,
            "experiment": unit.experiment,
            "parameters": dict(unit.parameters),
            "varied": dict(unit.varied),
        }
        for unit in units
    ]
    plan = {
        "units": listed,
        "uses": {**known["uses"], **_all_uses(units)},
        "sources": {**known["sources"], **tables},
        "runs": [*known["runs"], run],
    }
    try:
        records.write_json(out / "sweep.json", plan)
    except OSError as error:
        raise ValueError(f"cannot write {out}: {error.strerror}; name another folder") from error
