"""sweep.json: the units of a sweep, the fingerprints of all that they use, and every start."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tttlib.sweep import fingerprints, records
from tttlib.sweep.grid import Unit

_NAME = "sweep.json"
_EMPTY: dict[str, Any] = {"units": [], "uses": {}, "sources": {}, "runs": []}


def read_plan(out: str | Path) -> dict[str, Any]:
    """Read sweep.json.

    Returns
    -------
    dict
        `units` (key, label, experiment, parameters, …), `uses` (fingerprints of data and weights),
        `sources` (hash of a unit's sources -> file name -> hash) and `runs` (every start).

    Raises
    ------
    FileNotFoundError
        If there is none.
    ValueError
        If it is damaged.
    """
    path = Path(out) / _NAME
    try:
        plan = json.loads(path.read_text(encoding="utf-8"))
        if not all(isinstance(unit["label"], str) and unit["key"] for unit in plan["units"]):
            raise ValueError("units without a name")
        needed = {name: plan[name] for name in ("units", "uses", "runs")}
        return {**needed, "sources": plan.get("sources", {})}
    except FileNotFoundError as error:
        raise FileNotFoundError(f"no sweep in {out}: it has no {_NAME}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is damaged; delete it and run the sweep again: units that are done stay done"
        ) from error


def earlier_plan(out: Path) -> dict[str, Any]:
    """Return what earlier starts wrote; an empty plan if there was none."""
    return read_plan(out) if (out / _NAME).exists() else _EMPTY


def check_unchanged(out: Path, units: Sequence[Unit]) -> None:
    """Raise ValueError if a sweep began with other data or weights of the same names."""
    if changed := fingerprints.difference(earlier_plan(out)["uses"], _all_uses(units)):
        raise ValueError(
            f"{out} was begun with other files: {changed}. Put the old ones back, or start a new "
            "sweep in another folder: results of both would not be comparable"
        )


def write_plan(
    out: Path,
    units: Sequence[Unit],
    sources: Mapping[str, Mapping[str, str]],
    run: Mapping[str, Any],
) -> None:
    """Write sweep.json; fingerprints and sources that an earlier grid saw are kept.

    Raises
    ------
    ValueError
        If the folder cannot be written.
    """
    known = earlier_plan(out)
    names = ("key", "label", "experiment", "parameters", "varied")
    plan = {
        "units": [{name: getattr(unit, name) for name in names} for unit in units],
        "uses": {**known["uses"], **_all_uses(units)},
        "sources": {**known["sources"], **sources},
        "runs": [*known["runs"], run],
    }
    try:
        records.write_json(out / _NAME, plan)
    except OSError as error:
        raise ValueError(f"cannot write {out}: {error.strerror}; name another folder") from error


def _all_uses(units: Sequence[Unit]) -> dict[str, str]:
    return {name: value for unit in units for name, value in unit.uses.items()}
