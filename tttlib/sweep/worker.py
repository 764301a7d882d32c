"""What a worker does with a unit: run it in its own folder and write down how that went."""

from __future__ import annotations

import contextlib
import errno
import functools
import logging
import os
import platform
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tttlib.runtime.clock import now
from tttlib.runtime.files import sha256
from tttlib.sweep import code_identity, experiments, fingerprints, folder_lock, notebooks, records
from tttlib.sweep.interruptions import UnitTimeoutError, deadline, noting_ctrl_c, where_threads_are
from tttlib.sweep.task import Task, notebook_of, sources_of

STOPPED = "stopped"
_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
_loaded: dict[str, str] = {}  # name -> hash of the sources that this process began with


class CodeChangedError(Exception):
    """Source files are not those that the sweep began with."""


def run_unit(task: Task) -> dict[str, Any]:
    """Run one unit, unless it is done; return its record, which is written to its folder.

    A unit that fails is a record with state "failed", not an exception. State "stopped" says that
    the folder cannot be written (full disk) or that the code was edited: nothing is known of the
    unit, and the next one would fare no better. A worker of an earlier sweep that is still at the
    unit is waited for.
    """
    record: dict[str, Any] = {}
    try:
        task.folder.mkdir(parents=True, exist_ok=True)
        with folder_lock.waited_for(task.folder):
            before = records.read(task.folder)
            if before is not None and task.settled(before):
                return before
            if before is not None and not task.same_code(before):
                _set_results_aside(task.folder)
            record = {**task.identity(), **circumstances(), "pid": os.getpid(), "started": now()}
            records.write(task.folder, {**record, "state": records.RUNNING})
            record |= _run(task, record)
            if record["state"] != STOPPED:
                records.write(task.folder, record)
    except OSError as error:
        return {**record, "state": STOPPED, "error": f"cannot write {task.folder}: {error}"}
    return record


def circumstances() -> dict[str, Any]:
    """Return the code and the machine that run a unit, for its record."""
    return {"code": code_version(), "host": platform.node()}


@functools.cache
def code_version() -> str:
    """Return the version of this package and its commit, with "+changes" where it was edited."""
    from tttlib import __version__
    from tttlib.runtime.environment import git_state

    sha, dirty = git_state()
    return " ".join([__version__, *([sha[:12]] if sha else []), *(["+changes"] if dirty else [])])


def _set_results_aside(folder: Path) -> None:
    """Rename results/, whose rows are those of other code, so that none of them is used again."""
    if (folder / "results").is_dir():
        number = 1 + sum(1 for _ in folder.glob("results.old*"))
        os.replace(folder / "results", folder / f"results.old{number}")


def _run(task: Task, record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the end of the record: state, seconds, and files or error."""
    start = time.perf_counter()

    def ended(state: str) -> dict[str, Any]:
        seconds = round(time.perf_counter() - start, 3)
        return {"state": state, "seconds": seconds, "finished": now()}

    def failed(error: str, text: str) -> dict[str, Any]:
        error, text = records.printable(error, 1000), records.printable(text)
        (task.folder / "error.txt").write_text(text, encoding="utf-8")
        return {**ended(records.FAILED), "error": error, "traceback": text}

    def give_up() -> None:
        if task.worker:
            error = f"took longer than {task.timeout} s and had to be killed"
            text = f"{error}\n{where_threads_are()}"
            records.write(task.folder, {**record, **failed(error, text)})
            os._exit(70)

    (task.folder / "error.txt").unlink(missing_ok=True)
    with noting_ctrl_c() as pressed:
        try:
            with _log_file(task.folder), deadline(task.timeout, task.grace, give_up):
                _check_uses(task)
                files = _execute(task)
            return {**ended(records.DONE), **files}
        except UnitTimeoutError:
            return failed(f"took longer than {task.timeout} s", traceback.format_exc())
        except CodeChangedError as error:
            return {"state": STOPPED, "error": str(error)}
        except BaseException as error:  # SystemExit of a script, too: the sweep goes on
            if isinstance(error, KeyboardInterrupt) and pressed.is_set():
                raise
            line = next(iter(_text(error).splitlines()), "")
            if _unwritable(error):
                return {"state": STOPPED, "error": f"cannot write {task.folder}: {line}"}
            return failed(f"{type(error).__name__}: {line}", traceback.format_exc())


def _execute(task: Task) -> dict[str, Any]:
    """Run the notebook or the experiment; return the part of the record about its files."""
    unit = task.unit
    if not unit.notebook:
        experiment = experiments.find(unit.experiment, unit.folder)
        experiment.function(task.run_dir, **unit.parameters)
        return {"files": records.hashes(task.folder)}
    if task.line is not None:  # tqdm's own lock, of all processes, would outlive a kill
        from tqdm import tqdm

        tqdm.set_lock(threading.RLock())
    given, path = {**unit.given, "run_dir": str(task.run_dir)}, notebook_of(unit)
    how: dict[str, Any] = {"progress": task.progress, "line": task.line}
    executed = notebooks.run_notebook(path, task.run_dir / "notebooks", given, **how)
    files = records.hashes(task.folder)
    if task.run_dir != task.folder:  # results are shared with other notebooks
        files = {f"notebooks/{executed.name}": sha256(executed)}
    return {"files": files, "peak_memory_bytes": _peak_memory_of_children()}


def _check_uses(task: Task) -> None:
    """Raise an error where this process has other files or other code than the sweep.

    On the machine that started the sweep, data and weights have just been looked at.
    """
    here, unit = platform.node(), task.unit
    if unit.uses and task.host != here:
        now_used = fingerprints.uses(unit.parameters)
        if changed := fingerprints.difference(unit.uses, now_used):
            raise ValueError(f"{here} has other files than {task.host}: {changed}")
    if not task.sources:
        return
    table = sources_of(unit)
    if code_identity.digest(table) != task.sources:
        if task.host != here:
            raise ValueError(f"{here} has other code than {task.host}: check out the same")
        raise CodeChangedError("source files were edited while the sweep ran")
    if not unit.notebook:  # a notebook's kernel is always fresh
        if changed := code_identity.edited(_loaded, table):
            raise ValueError(f"this worker on {here} still has older code: {changed}; restart it")
        _loaded.update(table)


@contextlib.contextmanager
def _log_file(folder: Path) -> Iterator[None]:
    """Keep what the package says during the unit in <folder>/log.txt; no file if it is silent."""
    handler = logging.FileHandler(folder / "log.txt", mode="w", encoding="utf-8", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("tttlib")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()


def _peak_memory_of_children() -> int | None:
    """Return the largest resident set, in bytes, of any kernel that has ended; None if unknown."""
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def _unwritable(error: BaseException | None) -> bool:
    """Whether a full or read-only disk is at the bottom of it; a notebook says so in words."""
    while error is not None:
        text = f"[Errno {getattr(error, 'errno', None)}] {_text(error)[:10_000]}"
        if any(f"[Errno {code}]" in text for code in _UNWRITABLE):
            return True
        error = error.__cause__ or error.__context__
    return False


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # an exception of one's own may not even print
        return "(its text cannot be shown)"
