"""What is known of a unit: units/KEY/unit.json, written whole or not at all.

Its keys are
    state    "running" (started; whether it still runs, its lock says), "done" or "failed"
    files    of a done unit: the sha256 of every result file, so that damage is found; names with a
             slash are meant from the unit's folder, others lie in results/
    sources  stands for the content of the source files that the unit used (`code_identity`)
    session  the sweep that ran it, code the version of this package, error and traceback if it
             failed
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tttlib.runtime.files import sha256
from tttlib.runtime.files import write as write_file

log = logging.getLogger(__name__)

DONE, FAILED, RUNNING = "done", "failed", "running"
_NAME = "unit.json"
_TEXTS: dict[str, type] = dict.fromkeys(("key", "label", "session", "code"), str)
_NEEDED: dict[str, dict[str, type]] = {  # besides these texts
    DONE: {"files": dict}, FAILED: {"error": str}, RUNNING: {},
}  # fmt: skip
_LONGEST = 20_000  # characters of a text that is kept


def read(folder: Path) -> dict[str, Any] | None:
    """Return the record of a unit's folder; None when there is none, or (logged) it is damaged."""
    path = folder / _NAME
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        needed = {**_TEXTS, **_NEEDED[record["state"]]}
        if all(isinstance(record[name], kind) for name, kind in needed.items()):
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
    """Write a JSON file, whole or not at all."""
    write_file(path, json.dumps(value, indent=1))


def printable(text: str, longest: int = _LONGEST) -> str:
    """Return a text that can be written as UTF-8, without its middle where it is too long."""
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    if len(text) <= longest:
        return text
    half = longest // 2
    return f"{text[:half]} … ({len(text) - 2 * half} characters left out) … {text[-half:]}"


def hashes(folder: Path) -> dict[str, str]:
    """Return the sha256 of every result file and executed notebook of a unit, by name."""
    results = {path.name: sha256(path) for path in sorted(folder.glob("results/*.parquet"))}
    executed = sorted(folder.glob("notebooks/*.ipynb"))
    return results | {f"notebooks/{path.name}": sha256(path) for path in executed}


def unfit_files(folder: Path, record: Mapping[str, Any]) -> list[Path]:
    """Return those files of a done unit that are gone, or are not what they were."""
    named = record["files"].items()
    paths = {folder / (n if "/" in n else f"results/{n}"): digest for n, digest in named}
    return [p for p, digest in paths.items() if not p.is_file() or sha256(p) != digest]


def set_aside(folder: Path, paths: list[Path]) -> None:
    """Make a unit run again: drop its record, and rename damaged files to NAME.damaged (logged)."""
    for path in paths:
        there = path.is_file()
        log.warning("%s is %s: the unit runs again", path, "damaged" if there else "gone")
        if there:
            os.replace(path, path.with_name(f"{path.name}.damaged"))
    (folder / _NAME).unlink()
