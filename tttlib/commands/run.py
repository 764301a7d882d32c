"""One notebook into a run folder, which remembers the code that made its rows."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tttlib.runtime.clock import now
from tttlib.sweep import code_identity, records, run_notebook
from tttlib.sweep.worker import code_version

log = logging.getLogger(__name__)
_NAME = "code.json"


def run_into(
    run_dir: Path, notebook: Path, parameters: Mapping[str, Any], *, keep_old: bool = False
) -> Path:
    """Execute a notebook into a run folder; rows that are there are not computed again.

    Parameters
    ----------
    run_dir
        Gets the executed copy (notebooks/), rows, tables and figures. Its file code.json says,
        for every notebook, which sources the rows come from.
    notebook
        The notebook.
    parameters
        Replace its defaults.
    keep_old
        Whether to use rows that were computed before the notebook or the code was edited.

    Returns
    -------
    Path
        The executed copy.

    Raises
    ------
    ValueError
        If sources were edited since the rows of this notebook were computed, unless `keep_old`;
        besides, as `run_notebook`.
    """
    path = run_dir / _NAME
    known = _read(path)
    has_rows = any(run_dir.glob("results/*.parquet"))
    sources = code_identity.of_notebook(notebook, parameters)
    runs = known.get(notebook.stem, []) if has_rows else []
    judged = [(run, code_identity.edited(run["sources"], sources)) for run in runs]
    edited = [(run, changed) for run, changed in judged if changed]
    if edited and not keep_old:
        run, changed = edited[0]
        raise ValueError(
            f"{run_dir} has rows of {notebook.name} that other code computed ({run['code']}, "
            f"{run['started']}); edited since: {changed}. Name another --run-dir, or use these "
            "rows with --keep-old"
        )
    for run, changed in edited:
        words = f"rows of code {run['code']}, {run['started']}, are used; edited since"
        log.warning("%s: %s: %s", run_dir, words, changed)
    if not runs and has_rows and (run_dir / "notebooks" / notebook.name).exists():
        log.warning("%s: which code computed the rows that are there is not known", run_dir)
    entry = {"code": code_version(), "started": now(), "sources": sources}
    if not any(run["sources"] == sources for run in runs):
        run_dir.mkdir(parents=True, exist_ok=True)
        records.write_json(path, {**known, notebook.stem: [*runs, entry]})
    given = {**parameters, "run_dir": str(run_dir.resolve())}
    return run_notebook(notebook, run_dir / "notebooks", given)


def _read(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Return which code ran in a folder, by notebook; nothing (logged) if that cannot be read."""
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        for run in (run for runs in known.values() for run in runs):
            if not all(run[name] for name in ("code", "started", "sources")):
                raise ValueError("incomplete")
        return known
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError, AttributeError):
        log.warning("%s is damaged: which code computed the rows is not known", path)
        return {}
