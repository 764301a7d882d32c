"""Which result files of a sweep count: those of units that are done, unchanged since.

A sweep keeps the state of a unit in ``units/KEY/unit.json`` and lists its units in ``sweep.json``.
A study does the same for its notebooks, whose rows lie together in ``results/``.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tttlib.runtime.files import sha256


def completed(folder: Path, files: Iterable[Path]) -> tuple[list[Path], list[str]]:
    """Leave out the files of units that failed, were broken off, or lost some of their files.

    Parameters
    ----------
    folder
        A sweep, whose missing units are told; or any other folder.
    files
        Result files in it; those that belong to no unit of a sweep are kept.

    Returns
    -------
    list of Path
        The files that count.
    list of str
        A sentence on the units that were left out, if there are any.
    """
    files = [path.resolve() for path in files]
    units = {unit for unit in map(_unit_of, files) if unit is not None}
    units |= {folder.resolve() / "units" / key for key in _listed(folder)}
    records = {unit: _read(unit / "unit.json") for unit in units}
    states = {unit: _state(unit, record) for unit, record in records.items()}
    done = {unit for unit, state in states.items() if state == "done"}
    owned = {unit / "results" / name for unit in done for name in records[unit]["files"]}
    kept = [path for path in files if path in owned or _unit_of(path) is None]
    notes = []
    if counts := Counter(state for state in states.values() if state != "done"):
        reasons = ", ".join(f"{n} {state}" for state, n in sorted(counts.items()))
        left_out = f"{sum(counts.values())} of {len(units)} units of {folder} are left out"
        notes.append(f"{left_out}: {reasons}")
    return kept, notes + _unfinished_notebooks(folder)


def _unit_of(path: Path) -> Path | None:
    """Return the folder of the unit that a result file belongs to; None for any other file."""
    unit = path.parent.parent
    if path.parent.name != "results":
        return None
    return unit if unit.parent.name == "units" or (unit / "unit.json").exists() else None


def _listed(folder: Path) -> Iterator[str]:
    """Yield the keys of the units that a sweep lists."""
    listed = _read(folder / "sweep.json").get("units")
    for unit in listed if isinstance(listed, list) else ():
        if isinstance(unit, dict) and "key" in unit:
            yield str(unit["key"])


def _unfinished_notebooks(folder: Path) -> list[str]:
    """Name the notebooks of a study that are not done: what they would add is missing."""
    if not (folder / "study.json").exists():
        return []
    records = {p.parent.name: _read(p) for p in sorted(folder.glob("units/*/unit.json"))}
    names = [name for name, record in records.items() if record.get("state") != "done"]
    return [f"not done in {folder}: {', '.join(names)}; rows may be missing"] if names else []


def _state(unit: Path, record: Mapping[str, Any]) -> str:
    """Return "done", or what keeps the rows of a unit from being counted."""
    state, files = record.get("state"), record.get("files")
    if state != "done" or not isinstance(files, dict):
        return {"failed": "failed", "running": "not finished"}.get(str(state), "not run, or lost")
    for name, digest in files.items():
        path = unit / name if "/" in name else unit / "results" / name
        if not path.is_file() or sha256(path) != digest:
            return f"damaged ({path})"
    return "done"


def _read(path: Path) -> dict[str, Any]:
    """Return the content of a JSON file; empty when it is missing or damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
