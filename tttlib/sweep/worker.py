"""What a worker does with a unit: run it in its own folder and write down how that went."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import logging
import os
import platform
import signal
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tttlib.runtime import locks
from tttlib.runtime.clock import now
from tttlib.sweep import records

STOPPED = "stopped"
_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


class UnitTimeoutError(KeyboardInterrupt):
    """A unit took too long. Stops it as Ctrl-C would; `except Exception` does not swallow it."""


def run_unit(task: Mapping[str, Any]) -> dict[str, Any]:
    """Run one unit, unless it is done; returns its record (see `records`), which it has written.

    A unit that fails is a record with state "failed", no exception. State "stopped" says that the
    folder cannot be written (full disk): nothing is known of the unit, and the next one would fare
    no better. Waits for a worker of an earlier sweep that is still at it.
    """
    folder = Path(task["folder"])
    record: dict[str, Any] = {}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder):
            found = records.read(folder)
            if found is not None and _settled(found, task):
                return found
            record = {name: task[name] for name in KEPT} | _circumstances()
            records.write(folder, {**record, "state": records.RUNNING})
            ending = _run(task, folder, record)
            record |= ending
            if record["state"] != STOPPED:
                records.write(folder, record)
    except OSError as error:
        return {**record, "state": STOPPED, "error": f"cannot write {folder}: {error}"}
    return record


# of a task, in the record
KEPT = ("key", "label", "experiment", "parameters", "uses", "session", "notebook_sha256")


def _settled(record: Mapping[str, Any], task: Mapping[str, Any]) -> bool:
    """Done, or failed in this very sweep."""
    failed_now = record["state"] == records.FAILED and record["session"] == task["session"]
    return record["state"] == records.DONE or failed_now


def _run(task: Mapping[str, Any], folder: Path, record: Mapping[str, Any]) -> dict[str, Any]:
    """The end of the record: state, seconds, and files or error."""
    start = time.perf_counter()

    def failed(error: str, text: str) -> dict[str, Any]:
        seconds = round(time.perf_counter() - start, 3)
        (folder / "error.txt").write_text(text, encoding="utf-8")
        ending = {"state": records.FAILED, "seconds": seconds, "error": error, "traceback": text}
        return {**ending, "finished": now()}

    def give_up() -> None:
        error = f"took longer than {task['timeout']} s and did not stop by itself"
        records.write(folder, {**record, **failed(error, error)})
        os._exit(70)

    (folder / "error.txt").unlink(missing_ok=True)
    try:
        last = give_up if task["worker"] else None
        with _log_file(folder), _deadline(task["timeout"], task["grace"], last):
            _check_uses(task)
            _execute(task, folder)
        files = records.result_files(folder)
        seconds = round(time.perf_counter() - start, 3)
        return {"state": records.DONE, "seconds": seconds, "finished": now(), "files": files}
    except UnitTimeoutError:
        return failed(f"took longer than {task['timeout']} s", traceback.format_exc())
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit of a script, too: the sweep goes on
        if _unwritable(error):
            return {"state": STOPPED, "error": f"cannot write {folder}: {_first_line(error)}"}
        return failed(f"{type(error).__name__}: {_first_line(error)}", traceback.format_exc())


def _execute(task: Mapping[str, Any], folder: Path) -> None:
    if task["notebook"]:
        from tttlib.sweep.notebooks import find_notebook, run_notebook

        path = Path(task["notebook"])  # else of this machine's checkout
        path = path if path.is_file() else find_notebook(path.stem)
        given = {**task["given"], "run_dir": str(folder)}
        run_notebook(path, folder / "notebooks", given, progress=False)
        return
    from tttlib.sweep.experiments import find

    find(task["experiment"]).function(folder, **task["parameters"])


def _check_uses(task: Mapping[str, Any]) -> None:
    """Another machine may have other files under the same names.

    On the machine that started the sweep they have just been looked at.
    """
    if task["uses"] and task["host"] != platform.node():
        from tttlib.sweep import fingerprints

        changed = fingerprints.difference(task["uses"], fingerprints.uses(task["parameters"]))
        if changed:
            raise ValueError(f"{platform.node()} has other files than {task['host']}: {changed}")


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the unit; a worker of a sweep that was killed may still be at it."""
    while (lock := locks.acquire(folder / ".lock")) is None:
        time.sleep(0.2)
    with lock:
        yield


@contextlib.contextmanager
def _deadline(seconds: float | None, grace: float, give_up: Any) -> Iterator[None]:
    """Raise UnitTimeoutError after `seconds`; call `give_up` if that has no effect for `grace`.

    The exception comes by a signal in a main thread, which ends waiting, too; in another thread it
    comes between two instructions of Python.
    """
    if seconds is None:
        yield
        return
    main = threading.current_thread() is threading.main_thread() and hasattr(signal, "SIGALRM")
    ident = threading.get_ident()
    over = threading.Lock()  # held by whoever ends the unit first

    def interrupt() -> None:
        if over.acquire(blocking=False):
            set_exception = ctypes.pythonapi.PyThreadState_SetAsyncExc
            set_exception(ctypes.c_ulong(ident), ctypes.py_object(UnitTimeoutError))

    timers = [] if give_up is None else [threading.Timer(seconds + grace, give_up)]
    timers += [] if main else [threading.Timer(seconds, interrupt)]
    for timer in timers:
        timer.daemon = True
        timer.start()
    before = signal.signal(signal.SIGALRM, _raise_timeout) if main else None
    try:
        if main:
            signal.setitimer(signal.ITIMER_REAL, seconds)
        yield
        over.acquire(blocking=False)
    finally:
        for timer in timers:
            timer.cancel()
        if main:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


def _raise_timeout(*_: object) -> None:
    raise UnitTimeoutError


@contextlib.contextmanager
def _log_file(folder: Path) -> Iterator[None]:
    """What the package says during the unit goes to <folder>/log.txt; no file if it is silent."""
    handler = logging.FileHandler(folder / "log.txt", mode="w", encoding="utf-8", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("tttlib")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()


def _circumstances() -> dict[str, Any]:
    return {"code": code_version(), "host": platform.node(), "pid": os.getpid(), "started": now()}


@functools.cache
def code_version() -> str:
    """Version of this package and commit of its checkout, "+changes" where it differs."""
    from tttlib import __version__
    from tttlib.runtime.environment import git_state

    sha, dirty = git_state()
    return " ".join([__version__, *([sha[:12]] if sha else []), *(["+changes"] if dirty else [])])


def _unwritable(error: BaseException | None) -> bool:
    """Whether a full or read-only disk is at the bottom of it; a notebook says so in words."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _UNWRITABLE:
            return True
        if any(f"[Errno {code}]" in str(error) for code in _UNWRITABLE):
            return True
        error = error.__cause__ or error.__context__
    return False


def _first_line(error: BaseException) -> str:
    lines = str(error).splitlines()
    return lines[0] if lines else ""
