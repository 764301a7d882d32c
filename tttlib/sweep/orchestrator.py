"""A sweep: the units of a grid, run on an engine, each once, with what became of them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import platform
import uuid
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from tttlib.runtime import locks
from tttlib.runtime.clock import now
from tttlib.sweep import engines, fingerprints, records
from tttlib.sweep.grid import Unit, read_grid
from tttlib.sweep.work import KEPT, STOPPED, code_version

log = logging.getLogger(__name__)

GRACE = 5.0  # seconds that a unit has to stop by itself after its timeout
DEATHS = 3  # of a unit's worker, until the unit counts as failed


class SweepError(Exception):
    """A sweep could not go on; what is done is kept, and the same command resumes."""


@dataclass
class Summary:
    """What became of a sweep's units. `failed` holds their records, `earlier` those done before."""

    out: Path
    total: int = 0
    earlier: int = 0
    done: int = 0
    failed: list[dict[str, Any]] = field(default_factory=list)

    def where(self, record: Mapping[str, Any]) -> Path:
        """What to look at first: the executed notebook of a failed unit, else its traceback."""
        folder = unit_folder(self.out, record["key"])
        return next(iter((folder / "notebooks").glob("*.failed.ipynb")), folder / "error.txt")


def unit_folder(out: Path, key: str) -> Path:
    """The folder of a unit: results/, notebooks/, figures/, tables/, unit.json, error.txt."""
    return out / "units" / key


def run_sweep(
    grid: str | Path | Sequence[Unit],
    out: str | Path,
    *,
    engine: str = "local",
    workers: int | None = None,
    timeout: float | None = None,
    retry_failed: bool = False,
    address: str | None = None,
    options: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> Summary:
    """Run the units of a grid that are not done yet; see `engines.using` for where.

    grid     a grid file, or its units (`read_grid`)
    out      folder of the sweep: units/KEY/ for each unit, sweep.json
    timeout  seconds that a unit may take
    retry_failed  run again what failed earlier; otherwise it stays as it is

    A unit that fails, hangs or kills its worker (three times) is recorded and the others go on.
    Ctrl-C ends the workers; what is done is kept. Raises ValueError before anything runs: for the
    grid, missing data, data or weights that are not those the sweep began with, a folder that
    cannot be written or that another sweep holds. Raises SweepError when it cannot go on: full
    disk, lost scheduler.
    """
    if timeout is not None and not timeout > 0:
        raise ValueError(f"timeout must be more than 0 seconds, not {timeout}")
    units = read_grid(grid) if isinstance(grid, str | Path) else list(grid)
    out = Path(out).resolve()
    with _held(out):
        units = _identified(units)
        _check_unchanged(out, units)
        summary = Summary(out, len(units))
        todo = list(_open(out, units, retry_failed, summary))
        run = {"engine": engine, "workers": workers, "host": platform.node()}
        _write_plan(out, units, {**run, "code": code_version(), "started": now()})
        if todo:
            with engines.using(
                engine,
                workers=workers,
                folder=out,
                address=address,
                options=options,
                deaths=DEATHS,
            ) as opened:
                _Sweep(out, todo, opened, timeout, summary, progress).run()
    return summary


def read_plan(out: str | Path) -> dict[str, Any]:
    """sweep.json: units (key, label, experiment, parameters, …), uses (fingerprints), runs.

    Raises FileNotFoundError when there is none, ValueError when it is damaged.
    """
    path = Path(out) / "sweep.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {name: found[name] for name in ("units", "uses", "runs")}
    except FileNotFoundError as error:
        raise FileNotFoundError(f"no sweep in {out}: it has no sweep.json") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is damaged; delete it and run the sweep again: units that are done stay done"
        ) from error


class _Sweep:
    """The loop: keep the engine busy, write down what comes back."""

    def __init__(
        self,
        out: Path,
        todo: Sequence[Unit],
        engine: engines.Engine,
        timeout: float | None,
        summary: Summary,
        progress: bool,
    ) -> None:
        self._out, self._engine, self._timeout, self._summary = out, engine, timeout, summary
        self._todo = deque(todo)
        self._flying: dict[Any, Unit] = {}
        self._deaths: Counter[str] = Counter()
        self._session = uuid.uuid4().hex[:16]
        self._bar = tqdm(
            total=summary.total,
            initial=summary.total - len(todo),
            desc="sweep",
            unit="unit",
            disable=not progress,
        )

    def run(self) -> None:
        with self._bar:
            while self._todo or self._flying:
                self._launch()
                try:
                    ended = self._engine.wait(self._flying, 1.0)
                    for handle in ended:
                        self._end(handle)
                except engines.EngineLostError as error:
                    raise SweepError(f"{error}; what is done is kept") from error
                self._tell()

    def _launch(self) -> None:
        n = min(self._engine.slots - len(self._flying), len(self._todo))
        if n > 0 and not (self._engine.arrays and self._flying):
            units = [self._todo.popleft() for _ in range(n)]
            tasks = [self._task(unit) for unit in units]
            self._flying.update(zip(self._engine.submit(tasks), units, strict=True))
            self._tell()

    def _end(self, handle: Any) -> None:
        unit = self._flying[handle]
        try:
            record: dict[str, Any] | None = self._engine.result(handle)
        except engines.WorkerDiedError as error:
            record = self._after_death(unit, error)
        except engines.UnitLateError:
            record = self._fail(unit, f"took longer than {self._timeout} s and had to be killed")
        del self._flying[handle]
        if record is None:
            self._todo.appendleft(unit)
            return
        if record["state"] == STOPPED:
            raise SweepError(f"{record['error']}; what is done is kept")
        if record["state"] == records.DONE:
            self._summary.done += 1
        else:
            self._summary.failed.append(record)
        self._bar.update(1)

    def _after_death(self, unit: Unit, error: engines.WorkerDiedError) -> dict[str, Any] | None:
        """The unit's record if it has ended, or failed for good; None: it runs again."""
        folder = unit_folder(self._out, unit.key)
        record = records.read(folder) if folder.is_dir() else None
        ours = record is not None and record["session"] == self._session
        if record is not None and record["state"] == records.DONE:
            return record
        if ours and record is not None and record["state"] == records.FAILED:
            return record
        # dask blames all units that a worker held; those that had not begun are innocent
        self._deaths[unit.key] += error.times if ours else 1
        times = self._deaths[unit.key]
        if times < DEATHS:
            return None
        why = "killed from outside, or out of memory"
        return self._fail(unit, f"its worker died ({error}) {times} times: {why}")

    def _fail(self, unit: Unit, error: str) -> dict[str, Any]:
        """Write the record of a unit that could not do so itself."""
        task, folder = self._task(unit), unit_folder(self._out, unit.key)
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

    def _task(self, unit: Unit) -> dict[str, Any]:
        """What `work.run_unit` needs, in plain values."""
        return {
            "key": unit.key,
            "label": unit.label,
            "folder": str(unit_folder(self._out, unit.key)),
            "experiment": unit.experiment,
            "notebook": unit.notebook,
            "notebook_sha256": unit.notebook and _sha256(Path(unit.notebook)),
            "parameters": dict(unit.parameters),
            "given": dict(unit.given),
            "uses": dict(unit.uses),
            "timeout": self._timeout,
            "grace": GRACE,
            "session": self._session,
            "host": platform.node(),
            "worker": True,
        }

    def _tell(self) -> None:
        running = min(len(self._flying), self._engine.at_once)
        self._bar.set_postfix(failed=len(self._summary.failed), running=running, refresh=False)


@contextlib.contextmanager
def _held(out: Path) -> Iterator[None]:
    """The sweep's folder, made, writable and ours alone."""
    try:
        (out / "units").mkdir(parents=True, exist_ok=True)
        lock = locks.acquire(out / ".lock")
        if lock is not None:
            (out / "units" / f".probe.{os.getpid()}").write_text("writable")
            (out / "units" / f".probe.{os.getpid()}").unlink()
    except OSError as error:
        raise ValueError(f"cannot write {out}: {error.strerror}; name another folder") from error
    if lock is None:
        who = locks.owner(out / ".lock")
        raise ValueError(f"another sweep is at work in {out} ({who}); wait, or name another folder")
    with lock:
        yield


def _identified(units: Sequence[Unit]) -> list[Unit]:
    """The units with fingerprints of what they use; every thing is looked at once."""
    fingerprints.forget()
    found: list[Unit] = []
    known: dict[str, dict[str, str]] = {}
    for unit in units:
        same = fingerprints.signature(unit.parameters)
        if same not in known:
            known[same] = fingerprints.uses(unit.parameters)
        found.append(unit.using(known[same]))
    return found


def _check_unchanged(out: Path, units: Sequence[Unit]) -> None:
    if not (out / "sweep.json").exists():
        return
    before, after = read_plan(out)["uses"], _all_uses(units)
    if changed := fingerprints.difference(before, after):
        raise ValueError(
            f"{out} was begun with other files: {changed}. Put the old ones back, or start a new "
            "sweep in another folder: results of both would not be comparable"
        )


def _all_uses(units: Sequence[Unit]) -> dict[str, str]:
    return {name: value for unit in units for name, value in unit.uses.items()}


def _open(out: Path, units: Sequence[Unit], retry_failed: bool, summary: Summary) -> Iterator[Unit]:
    """The units to run; the others are counted in `summary`."""
    versions: Counter[str] = Counter()
    for unit in units:
        folder = unit_folder(out, unit.key)
        record = records.read(folder) if folder.is_dir() else None
        if record is not None and record["state"] == records.DONE:
            if records.intact(folder, record):
                summary.earlier += 1
                versions[record["code"]] += 1
                continue
            (folder / "unit.json").unlink()
        elif record is not None and record["state"] == records.FAILED and not retry_failed:
            summary.failed.append(record)
            continue
        yield unit
    for code in versions.keys() - {code_version()}:
        log.warning(
            "%d units were computed by code %s, not %s", versions[code], code, code_version()
        )


def _write_plan(out: Path, units: Sequence[Unit], run: Mapping[str, Any]) -> None:
    """sweep.json; fingerprints that an earlier grid saw are kept."""
    known: dict[str, Any] = {"uses": {}, "runs": []}
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
    plan = {"units": listed, "uses": {**known["uses"], **_all_uses(units)}}
    try:
        records.write_json(out / "sweep.json", {**plan, "runs": [*known["runs"], run]})
    except OSError as error:
        raise ValueError(f"cannot write {out}: {error.strerror}; name another folder") from error


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
