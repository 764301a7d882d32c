"""What a worker does with a unit: run it in its own folder and write down how that went."""

from __future__ import annotations

import contextlib
import errno
import faulthandler
import functools
import logging
import os
import platform
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tttlib.runtime.clock import now
from tttlib.sweep import code_identity, folder_lock, records

STOPPED = "stopped"
_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
# of a task, in the record
KEPT = ("key", "label", "experiment", "parameters", "uses", "sources", "session", "notebook_sha256")
_loaded: dict[str, str] = {}  # name -> hash of the sources that this process began with


class UnitTimeoutError(KeyboardInterrupt):
    """A unit took too long. It stops the unit as Ctrl-C would; `except Exception` lets it pass."""


class CodeChangedError(Exception):
    """Source files are not those that the sweep began with."""


def run_unit(task: Mapping[str, Any]) -> dict[str, Any]:
    """Run one unit, unless it is done; return its record, which is written to its folder.

    A unit that fails is a record with state "failed", not an exception. State "stopped" says that
    the folder cannot be written (full disk) or that the code was edited: nothing is known of the
    unit, and the next one would fare no better. A worker of an earlier sweep that is still at the
    unit is waited for.

    Parameters
    ----------
    task
        Plain values, see `orchestrator.task_of`.
    """
    folder = Path(task["folder"])
    record: dict[str, Any] = {}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = folder_lock.hold(folder, wait=True)
        assert lock is not None
        with lock:
            before = records.read(folder)
            if before is not None and _settled(before, task):
                return before
            if before is not None and not same_code(before, task):
                _set_results_aside(folder)
            record = {name: task[name] for name in KEPT}
            record |= {"code": code_version(), "host": platform.node(), "pid": os.getpid()}
            record["started"] = now()
            records.write(folder, {**record, "state": records.RUNNING})
            record |= _run(task, folder, record)
            if record["state"] != STOPPED:
                records.write(folder, record)
    except OSError as error:
        return {**record, "state": STOPPED, "error": f"cannot write {folder}: {error}"}
    return record


@functools.cache
def code_version() -> str:
    """Return the version of this package and its commit, with "+changes" where it was edited."""
    from tttlib import __version__
    from tttlib.runtime.environment import git_state

    sha, dirty = git_state()
    return " ".join([__version__, *([sha[:12]] if sha else []), *(["+changes"] if dirty else [])])


def same_code(record: Mapping[str, Any], task: Mapping[str, Any]) -> bool:
    """Return whether the rows of a record can be used: they come from the same source files.

    Records that older versions wrote do not say which sources they used; there a notebook's own
    file tells.
    """
    if task["keep_old"]:
        return True
    if record.get("sources"):
        return record["sources"] == task["sources"]
    return record.get("notebook_sha256", "") in ("", task["notebook_sha256"])


def sources_of(
    experiment: str, notebook: str, parameters: Mapping[str, Any], grid_folder: str
) -> dict[str, str]:
    """Return the source files of a unit and their hashes, as they are on this machine."""
    if notebook:
        return code_identity.of_notebook(_local(notebook), parameters)
    from tttlib.sweep.experiments import module_of

    return code_identity.of_experiment(module_of(experiment), parameters, grid_folder)


def _settled(record: Mapping[str, Any], task: Mapping[str, Any]) -> bool:
    """Whether a unit has ended in this very sweep, or was done earlier with the same code."""
    if record["session"] == task["session"]:
        return record["state"] != records.RUNNING
    return record["state"] == records.DONE and same_code(record, task)


def _set_results_aside(folder: Path) -> None:
    """Rename results/, whose rows are those of other code, so that none of them is used again."""
    results = folder / "results"
    if results.is_dir():
        number = 1 + sum(1 for _ in folder.glob("results.old*"))
        os.replace(results, folder / f"results.old{number}")


def _run(task: Mapping[str, Any], folder: Path, record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the end of the record: state, seconds, and files or error."""
    start = time.perf_counter()

    def ended(state: str) -> dict[str, Any]:
        return {
            "state": state,
            "seconds": round(time.perf_counter() - start, 3),
            "finished": now(),
        }

    def failed(error: str, text: str) -> dict[str, Any]:
        error, text = records.printable(error, 1000), records.printable(text)
        (folder / "error.txt").write_text(text, encoding="utf-8")
        return {**ended(records.FAILED), "error": error, "traceback": text}

    def give_up() -> None:
        error = f"took longer than {task['timeout']} s and had to be killed"
        records.write(folder, {**record, **failed(error, f"{error}\n{_where_threads_are()}")})
        os._exit(70)

    (folder / "error.txt").unlink(missing_ok=True)
    pressed = threading.Event()
    try:
        last = give_up if task["worker"] else None
        with (
            _log_file(folder),
            _noting_ctrl_c(pressed),
            _deadline(task["timeout"], task["grace"], last),
        ):
            _check_uses(task)
            files = _execute(task, folder)
        return {**ended(records.DONE), **files}
    except UnitTimeoutError:
        return failed(f"took longer than {task['timeout']} s", traceback.format_exc())
    except CodeChangedError as error:
        return {"state": STOPPED, "error": str(error)}
    except BaseException as error:  # SystemExit of a script, too: the sweep goes on
        if isinstance(error, KeyboardInterrupt) and pressed.is_set():
            raise
        if _unwritable(error):
            return {"state": STOPPED, "error": f"cannot write {folder}: {_first_line(error)}"}
        return failed(f"{type(error).__name__}: {_first_line(error)}", traceback.format_exc())


def _execute(task: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Run the notebook or the experiment; return the part of the record about its files."""
    run_dir = Path(task["run_dir"])
    if not task["notebook"]:
        from tttlib.sweep.experiments import find

        find(task["experiment"], task["grid_folder"]).function(run_dir, **task["parameters"])
        return {"files": records.hashes(folder)}
    from tttlib.sweep import notebooks

    if task["line"] is not None:  # the default lock, of all processes, would outlive a kill
        from tqdm import tqdm

        tqdm.set_lock(threading.RLock())
    executed = notebooks.run_notebook(
        _local(task["notebook"]),
        run_dir / "notebooks",
        {**task["given"], "run_dir": str(run_dir)},
        progress=task["progress"],
        line=task["line"],
    )
    if run_dir == folder:
        files = records.hashes(folder)
    else:  # results are shared with other notebooks
        files = {f"notebooks/{executed.name}": records.sha256(executed)}
    return {"files": files, "peak_memory_bytes": _peak_memory_of_children()}


def _check_uses(task: Mapping[str, Any]) -> None:
    """Raise an error where this process has other files or other code than the sweep.

    On the machine that started the sweep, data and weights have just been looked at.
    """
    here = platform.node()
    if task["uses"] and task["host"] != here:
        from tttlib.sweep import fingerprints

        changed = fingerprints.difference(task["uses"], fingerprints.uses(task["parameters"]))
        if changed:
            raise ValueError(f"{here} has other files than {task['host']}: {changed}")
    if not task["sources"]:
        return
    names = ("experiment", "notebook", "parameters", "grid_folder")
    table = sources_of(*(task[name] for name in names))
    if code_identity.digest(table) != task["sources"]:
        if task["host"] != here:
            raise ValueError(f"{here} has other code than {task['host']}: check out the same")
        raise CodeChangedError("source files were edited while the sweep ran")
    older = {name: value for name, value in _loaded.items() if name in table}
    if not task["notebook"]:  # a notebook's kernel is always fresh
        if changed := code_identity.changed(older, {name: table[name] for name in older}):
            raise ValueError(f"this worker on {here} still has older code: {changed}; restart it")
        _loaded.update(table)


def _local(notebook: str) -> Path:
    """Return a notebook by its path, else that of the same name in this machine's checkout."""
    from tttlib.sweep.notebooks import find_notebook

    path = Path(notebook)
    return path if path.is_file() else find_notebook(path.stem)


@contextlib.contextmanager
def _noting_ctrl_c(pressed: threading.Event) -> Iterator[None]:
    """Set `pressed` when Ctrl-C is, to tell it from a KeyboardInterrupt that a unit raises."""
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return

    def note(number: int, frame: Any) -> None:
        pressed.set()
        before(number, frame)

    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def _deadline(
    seconds: float | None, grace: float, give_up: Callable[[], None] | None
) -> Iterator[None]:
    """Raise UnitTimeoutError after `seconds`, where a signal can: in a main thread.

    Where none can, or where that has no effect for `grace`, `give_up` ends the process.
    """
    if seconds is None:
        yield
        return
    signals = threading.current_thread() is threading.main_thread() and hasattr(signal, "SIGALRM")
    timer = None
    if give_up is not None:
        timer = threading.Timer(seconds + (grace if signals else 0), give_up)
        timer.daemon = True
        timer.start()
    before = signal.signal(signal.SIGALRM, _raise_timeout) if signals else None
    try:
        if signals:
            signal.setitimer(signal.ITIMER_REAL, seconds)
        yield
    finally:
        if timer is not None:
            timer.cancel()
        if signals:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


def _raise_timeout(*_: object) -> None:
    raise UnitTimeoutError


def _where_threads_are() -> str:
    """Return the tracebacks of all threads."""
    with tempfile.TemporaryFile("w+", encoding="utf-8") as file:
        faulthandler.dump_traceback(file)
        file.seek(0)
        return file.read()


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
        if isinstance(error, OSError) and error.errno in _UNWRITABLE:
            return True
        if any(f"[Errno {code}]" in _text(error)[:10_000] for code in _UNWRITABLE):
            return True
        error = error.__cause__ or error.__context__
    return False


def _first_line(error: BaseException) -> str:
    lines = _text(error).splitlines()
    return lines[0] if lines else ""


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # an exception of one's own may not even print
        return "(its text cannot be shown)"
