"""The whole study: every notebook, headlessly, into one run folder with one HTML report."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from tttlib import __version__, report, sweep
from tttlib.runtime import environment, locks
from tttlib.runtime.clock import now
from tttlib.sweep.parameter_files import share_out
from tttlib.sweep.several import default_workers, run_notebooks

log = logging.getLogger(__name__)

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
    """Execute the notebooks and write the report; returns the path of its index.html.

    runs        folder of the runs; this one gets <runs>/<YYYYmmdd-HHMMSS>/ with notebooks/
                (executed), results/, figures/, tables/, study.json and at last index.html
    notebooks   names or paths; all of notebooks/0*.ipynb when None
    parameters  each notebook gets those it declares (see `parameter_files`), and `run_dir`, the
                path of the run folder
    fresh       start anew instead of resuming
    workers     notebooks at once; None: one per GPU, else as cores and free memory allow

    Resumes the newest unfinished run (one without index.html) when parameters, notebooks and code
    are the same, skipping executed notebooks; otherwise starts a new one and logs why. Ctrl-C
    leaves what is finished. Raises ValueError for workers below 1 and for a parameter that no
    notebook declares (before anything runs), and NotebookError when a cell fails.
    """
    if workers is not None and workers < 1:
        raise ValueError(f"workers must be 1 or more, not {workers}")
    paths = _notebooks(notebooks)
    given = share_out(paths, parameters or {})
    identity = _identity(paths, parameters or {})
    with _run_folder(Path(runs).resolve(), identity, fresh) as run:
        record = read_record(run)
        todo = {
            path: {**given[path], "run_dir": str(run)}
            for path in paths
            if not (run / "notebooks" / path.name).exists()
        }
        n = min(workers, max(1, len(todo))) if workers else default_workers(len(todo))
        before, start = record["wall_seconds"], time.perf_counter()
        with tqdm(
            total=len(paths),
            initial=len(paths) - len(todo),
            unit="notebook",
            desc=f"study, {n} at once" if n > 1 else "study",
            disable=not progress,
        ) as bar:
            for one in run_notebooks(todo, run / "notebooks", workers=n, progress=progress):
                seconds = {**record["seconds"], one.path.stem: one.seconds}
                record["seconds"] = dict(sorted(seconds.items()))
                record["wall_seconds"] = round(before + time.perf_counter() - start, 1)
                peaks = (record["peak_memory_bytes"], one.peak_memory_bytes)
                record["peak_memory_bytes"] = max((p for p in peaks if p), default=None)
                _write_record(run, record)
                bar.update()
        record["environment"] = {**environment.describe(), "notebooks_at_once": n}
        record["finished"] = now()
        _write_record(run, record)
        return report.write(run, record, paths)


def read_record(run: str | Path) -> dict[str, Any]:
    """What is known of a run (study.json).

    Its identity, the seconds of each notebook and of all on the clock, one's peak memory in bytes.
    """
    return json.loads((Path(run) / "study.json").read_text(encoding="utf-8"))


def _notebooks(names: Sequence[str | Path] | None) -> list[Path]:
    if names is not None:
        paths = [sweep.find_notebook(name) for name in names]
    else:
        paths = sorted(sweep.notebooks_folder().glob("0*.ipynb"))
    if not paths:
        raise ValueError("the study has no notebooks (0*.ipynb)")
    return paths


def _identity(paths: list[Path], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """What must be equal for a run to be resumed."""
    sources = sorted(Path(__file__).parents[1].rglob("*.py"))
    return {
        "parameters": json.loads(json.dumps(dict(parameters))),
        "notebooks": {path.name: _sha256(path) for path in paths},
        "tttlib": __version__,
        "git_sha": environment.git_state()[0],
        "code": _sha256(*sources),
    }


def _sha256(*paths: Path) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()


@contextlib.contextmanager
def _run_folder(runs: Path, identity: Mapping[str, Any], fresh: bool) -> Iterator[Path]:
    """The run to resume, else a new one; locked, so that two studies never share a folder."""
    with contextlib.ExitStack() as stack:
        run = None if fresh else _resumable(runs, identity)
        if run is not None and not _lock(run, stack):
            log.info("%s is being worked on by another process: a new run starts", run)
            run = None
        if run is None:
            run = _new_run(runs)
            _lock(run, stack)
            started: dict[str, Any] = {
                "started": now(),
                "seconds": {},
                "wall_seconds": 0.0,
                "peak_memory_bytes": None,
            }
            _write_record(run, {**identity, **started})
        else:
            log.info("resuming %s", run)
        yield run


def _resumable(runs: Path, identity: Mapping[str, Any]) -> Path | None:
    unfinished = [p.parent for p in runs.glob("*/study.json") if not _finished(p.parent)]
    if not unfinished:
        return None
    newest = max(unfinished)
    try:
        record = read_record(newest)
    except ValueError:
        log.warning("%s has a damaged study.json: a new run starts", newest)
        return None
    changed = [name for name in _IDENTITY if record.get(name) != identity[name]]
    if changed:
        log.warning("%s is not resumed, changed: %s; a new run starts", newest, ", ".join(changed))
        return None
    return newest


def _finished(run: Path) -> bool:
    return (run / "index.html").exists()


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


def _lock(run: Path, stack: contextlib.ExitStack) -> bool:
    """Hold the run until the stack closes; False when another process holds it."""
    lock = locks.acquire(run / ".lock")
    if lock is not None:
        stack.enter_context(lock)
    return lock is not None


def _write_record(run: Path, record: Mapping[str, Any]) -> None:
    temporary = run / f".study.json.{os.getpid()}.tmp"
    temporary.write_text(json.dumps(record, indent=1), encoding="utf-8")
    os.replace(temporary, run / "study.json")
