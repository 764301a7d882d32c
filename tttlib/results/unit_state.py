"""Which result files of a sweep count: those of units that are done, unchanged since.

A sweep keeps the state of a unit in ``units/KEY/unit.json`` and lists its units in ``sweep.json``.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any


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
    units = {unit for path in files if (unit := _unit_of(path)) is not None}
    units |= set(_units_in(folder.resolve()))
    records = {unit: _read(unit / "unit.json") for unit in units}
    states = {unit: _state(unit, record) for unit, record in records.items()}
    kept = []
    for path in files:
        unit = _unit_of(path)
        if unit is None or (states[unit] == "done" and path.name in records[unit]["files"]):
            kept.append(path)
    counts = Counter(state for state in states.values() if state != "done")
    if not counts:
        return kept, []
    reasons = ", ".join(f"{n} {state}" for state, n in sorted(counts.items()))
    left_out = sum(counts.values())
    return kept, [f"{left_out} of {len(units)} units of {folder} are left out: {reasons}"]


def _unit_of(path: Path) -> Path | None:
    """Return the folder of the unit that a result file belongs to; None for any other file."""
    unit = path.parent.parent
    if path.parent.name != "results":
        return None
    return unit if unit.parent.name == "units" or (unit / "unit.json").exists() else None


def _units_in(folder: Path) -> Iterator[Path]:
    """Yield the folders of the units that a sweep began or lists."""
    yield from (path.parent for path in folder.glob("units/*/unit.json"))
    listed = _read(folder / "sweep.json").get("units")
    for unit in listed if isinstance(listed, list) else ():
        if isinstance(unit, dict) and "key" in unit:
            yield folder / "units" / str(unit["key"])


def _state(unit: Path, record: Mapping[str, Any]) -> str:
    """Return "done", or what keeps the rows of a unit from being counted."""
    state, files = record.get("state"), record.get("files")
    if state in ("failed", "running"):
        return "failed" if state == "failed" else "not finished"
    if state != "done" or not isinstance(files, dict):
        return "not run, or lost"
    for name, digest in files.items():
        path = unit / "results" / name
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            return f"damaged ({path})"
    return "done"


def _read(path: Path) -> dict[str, Any]:
    """Return the content of a JSON file; empty when it is missing or damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
