"""A sweep: the units of a grid, each run once, in one folder."""

from __future__ import annotations

import contextlib
import logging
import platform
import tempfile
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tttlib.runtime.clock import now
from tttlib.sweep import code_identity, engines, fingerprints, folder_lock, records
from tttlib.sweep.grid import Unit, read_grid
from tttlib.sweep.orchestrator import SweepError, run_tasks
from tttlib.sweep.plan_file import check_unchanged, earlier_plan, write_plan
from tttlib.sweep.task import Task, make_task, sources_of
from tttlib.sweep.worker import code_version

log = logging.getLogger(__name__)

DEATHS = 3  # of a unit's worker, until the unit counts as failed


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

    def count(self, record: dict[str, Any]) -> None:
        """Count a unit that has ended."""
        if record["state"] == records.DONE:
            self.done += 1
        else:
            self.failed.append(record)


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
    out, units = Path(out).resolve(), read_grid(grid) if isinstance(grid, str | Path) else grid
    with _held(out):
        units = identified(units)
        check_unchanged(out, units)
        tasks, tables = tasks_of(units, out, timeout=timeout, keep_old=keep_old)
        summary = Summary(out, len(units))
        todo = list(_open(tasks, retry_failed, summary))
        stale = [task for task in todo if judge(task)[0] == "stale"]
        if stale and not recompute:
            raise ValueError(_refusal(out, stale, tables))
        run = {"engine": engine, "workers": workers, "host": platform.node()}
        write_plan(out, units, tables, {**run, "code": code_version(), "started": now()})
        if todo:
            where: dict[str, Any] = {"workers": workers, "address": address, "options": options}
            bar: dict[str, Any] = {"desc": "sweep", "unit": "unit", "disable": not progress}
            with engines.using(engine, folder=out, deaths=DEATHS, **where) as opened:
                run_tasks(todo, opened, summary.count, deaths=DEATHS, total=len(units), **bar)
            _check_on_disk(out, tasks)
    return summary


def identified(units: Sequence[Unit]) -> list[Unit]:
    """Return the units with fingerprints of what they use; every thing is looked at once."""
    fingerprints.forget()
    alike = {fingerprints.signature(unit.parameters): unit.parameters for unit in units}
    uses = {signature: fingerprints.uses(parameters) for signature, parameters in alike.items()}
    return [unit.using(uses[fingerprints.signature(unit.parameters)]) for unit in units]


def tasks_of(
    units: Sequence[Unit], out: Path, **terms: Any
) -> tuple[list[Task], dict[str, dict[str, str]]]:
    """Return the units as tasks, and the source files of each kind by the hash of them all."""
    session, tables, tasks = uuid.uuid4().hex[:16], {}, []
    for unit in units:
        table = sources_of(unit)
        sources = code_identity.digest(table)
        tables[sources] = table
        tasks.append(make_task(unit, unit_folder(out, unit.key), session, sources=sources, **terms))
    return tasks, tables


def judge(task: Task) -> tuple[str, dict[str, Any] | None]:
    """Return what is to be done about a unit, and its record.

    The verdict is "done", "failed", "open" (it runs), "damaged" (it runs, because files of a done
    unit are not what they were) or "stale" (it is done, but by other code).
    """
    record = records.read(task.folder)
    if record is None or record["state"] == records.RUNNING:
        return "open", record
    if record["state"] == records.FAILED:
        return "failed", record
    if records.unfit_files(task.folder, record):
        return "damaged", record
    return ("done" if task.same_code(record) else "stale"), record


def _open(tasks: Sequence[Task], retry_failed: bool, summary: Summary) -> Iterator[Task]:
    """Yield the tasks to run; the others are counted in `summary`."""
    versions: Counter[str] = Counter()
    for task in tasks:
        verdict, record = judge(task)
        if record is not None and verdict == "done":
            summary.earlier += 1
            versions[record["code"]] += 1
        elif record is not None and verdict == "failed" and not retry_failed:
            summary.failed.append(record)
        else:
            if record is not None and verdict == "damaged":
                records.set_aside(task.folder, records.unfit_files(task.folder, record))
            yield task
    here = code_version()
    for code in versions.keys() - {here}:
        log.warning("%d units were computed by code %s, not %s", versions[code], code, here)


def _refusal(out: Path, stale: Sequence[Task], tables: Mapping[str, Mapping[str, str]]) -> str:
    """Say which sources have changed since units were done, and what can be done about it."""
    task = stale[0]
    record, known = records.read(task.folder) or {}, earlier_plan(out)["sources"]
    if record.get("sources") in known:
        names = code_identity.changed(known[record["sources"]], tables[task.sources])
    else:
        names = "its source files" if record.get("sources") else Path(task.unit.notebook).name
    return (
        f"{len(stale)} finished units in {out} were computed by other code "
        f"({record.get('code')}); edited since: {names}. Run them again with --recompute, keep "
        "their rows with --keep-old, or name another folder"
    )


def _check_on_disk(out: Path, tasks: Sequence[Task]) -> None:
    """Raise SweepError when units that ended well are no longer on the disk."""
    if gone := [task.unit.label for task in tasks if judge(task)[0] not in ("done", "failed")]:
        raise SweepError(
            f"{len(gone)} of {len(tasks)} units are no longer whole in {out} (the first: "
            f"{gone[0]}): something else deletes or changes files there; the same command runs "
            "them again"
        )


@contextlib.contextmanager
def _held(out: Path) -> Iterator[None]:
    """Hold the sweep's folder: made, writable and ours alone."""
    try:
        (out / "units").mkdir(parents=True, exist_ok=True)
        if (lock := folder_lock.held(out)) is not None:
            with tempfile.TemporaryFile(dir=out / "units") as probe:
                probe.write(b"writable")
    except OSError as error:
        raise ValueError(f"cannot write {out}: {error.strerror}; name another folder") from error
    if lock is None:
        who = folder_lock.holder(out)
        raise ValueError(f"another sweep is at work in {out} ({who}); wait, or name another folder")
    with lock:
        yield
