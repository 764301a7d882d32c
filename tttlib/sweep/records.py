"""What is known of a unit: units/KEY/unit.json, written whole or not at all.

state    "running" (started; whether it still runs, its lock says), "done" or "failed"
files    of a done unit: the sha256 of every result file, so that damage is found
session  the sweep that ran it, code the version of this package, error and traceback if it failed
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

DONE, FAILED, RUNNING = "done", "failed", "running"
_NAME = "unit.json"


def read(folder: Path) -> dict[str, Any] | None:
    """The record of a unit's folder; None when there is none, or (logged) it is damaged."""
    path = folder / _NAME
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["state"] in (DONE, FAILED, RUNNING):
            return record
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        pass
    log.warning("%s is damaged: the unit runs again", path)
    return None


def write(folder: Path, record: Mapping[str, Any]) -> None:
    """Keep the record of a unit in its folder, whole or not at all."""
    write_json(folder / _NAME, record)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file under a temporary name and rename it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(json.dumps(value, indent=1), encoding="utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def result_files(folder: Path) -> dict[str, str]:
    """Name -> sha256 of every result file of a unit."""
    paths = sorted((folder / "results").glob("*.parquet"))
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def intact(folder: Path, record: Mapping[str, Any]) -> bool:
    """Whether a done unit's result files are what they were; damaged ones are set aside (logged).

    A file set aside is called NAME.damaged and is computed anew when the unit runs again.
    """
    found, ok = result_files(folder), True
    for name, digest in record.get("files", {}).items():
        if found.get(name) == digest:
            continue
        ok, path = False, folder / "results" / name
        log.warning("%s is %s: the unit runs again", path, "damaged" if name in found else "gone")
        if name in found:
            os.replace(path, path.with_name(f"{name}.damaged"))
    return ok
