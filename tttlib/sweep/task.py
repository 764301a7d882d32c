"""What a worker is sent: a unit, where it goes, and on what terms."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tttlib.runtime.files import sha256
from tttlib.sweep import code_identity, experiments, records
from tttlib.sweep.grid import Unit
from tttlib.sweep.notebooks import find_notebook

GRACE = 5.0  # seconds that a unit has to stop by itself after its timeout


@dataclass(frozen=True, eq=False, kw_only=True)
class Task:
    """A unit for a worker.

    Attributes
    ----------
    unit, key
        The unit, and its key.
    folder
        Gets its record, log and traceback.
    run_dir
        Folder of its results, notebooks, figures and tables: `folder`, unless units share one.
    session
        Name of this run of the sweep.
    sources
        Stands for the source files that it uses (`code_identity`); empty: not looked at.
    notebook_sha256
        Of its notebook; empty for an experiment.
    timeout, grace
        Seconds that it may take, and those it then has to stop by itself.
    keep_old
        Whether rows of other code are used.
    host
        The machine that runs the sweep.
    worker
        Whether it runs in a process of its own, which may be ended.
    progress, line
        Whether a notebook shows a bar over its cells, and in which line of the terminal.
    """

    unit: Unit
    key: str
    folder: Path
    run_dir: Path
    session: str
    sources: str = ""
    notebook_sha256: str = ""
    timeout: float | None = None
    grace: float = GRACE
    keep_old: bool = False
    host: str = ""
    worker: bool = True
    progress: bool = False
    line: int | None = None

    def identity(self) -> dict[str, Any]:
        """Return what a record says of the task."""
        of_unit = ("label", "experiment", "parameters", "uses")
        own = ("key", "sources", "session", "notebook_sha256")
        said = {name: getattr(self.unit, name) for name in of_unit}
        return said | {name: getattr(self, name) for name in own}

    def same_code(self, record: Mapping[str, Any]) -> bool:
        """Return whether the rows of a record can be used: they come from the same sources.

        Records that older versions wrote do not say which sources they used; there a notebook's own
        file tells.
        """
        if self.keep_old:
            return True
        if record.get("sources"):
            return record["sources"] == self.sources
        return record.get("notebook_sha256", "") in ("", self.notebook_sha256)

    def settled(self, record: Mapping[str, Any]) -> bool:
        """Return whether a unit has ended in this sweep, or was done earlier with the same code."""
        if record["session"] == self.session:
            return record["state"] != records.RUNNING
        return record["state"] == records.DONE and self.same_code(record)


def make_task(unit: Unit, folder: Path, session: str, **terms: Any) -> Task:
    """Return a unit as a task; `terms` are the other fields of `Task`."""
    terms = {"run_dir": folder, "grace": GRACE, "host": platform.node(), **terms}
    if unit.notebook:
        terms["notebook_sha256"] = sha256(Path(unit.notebook))
    return Task(unit=unit, key=unit.key, folder=folder, session=session, **terms)


def notebook_of(unit: Unit) -> Path:
    """Return the notebook of a unit by its path, else that of this name in this checkout."""
    path = Path(unit.notebook)
    return path if path.is_file() else find_notebook(path.stem)


def sources_of(unit: Unit) -> dict[str, str]:
    """Return the source files of a unit and their hashes, as they are on this machine."""
    if unit.notebook:
        return code_identity.of_notebook(notebook_of(unit), unit.parameters)
    module = experiments.module_of(unit.experiment)
    return code_identity.of_experiment(module, unit.parameters, unit.folder)
