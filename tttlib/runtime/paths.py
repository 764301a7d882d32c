"""Which folders of the user's hold datasets and weights, and what can be made from them again."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pooch

WEIGHTS = re.compile(r"(.+_)?models?|head")
"""Names of parameters that name weights."""


def data_root(root: str | Path | None) -> Path:
    """Folder of the datasets: the argument, else $TTTLIB_DATA, else the user's cache."""
    if root is not None:
        return Path(root).expanduser()
    if os.environ.get("TTTLIB_DATA"):
        return Path(os.environ["TTTLIB_DATA"]).expanduser()
    return cache_root() / "data"


def cache_root() -> Path:
    """Folder for what can be made again (decoded images): $TTTLIB_CACHE, else the user's cache."""
    return Path(os.environ.get("TTTLIB_CACHE") or pooch.os_cache("tttlib")).expanduser()


def released(text: str | Path) -> tuple[str, str, str | None] | None:
    """Preset, file and head of "PRESET:FILE" or "PRESET:FILE+HEAD"; None for anything else."""
    named = re.fullmatch(r"([a-z][\w-]+):([^+]+)(?:\+(.+))?", str(text))
    return (named[1], named[2], named[3]) if named else None


def weights_file(path: str | Path) -> Path:
    """`path` from here, or else in the folder of the datasets."""
    path = Path(path).expanduser()
    return path if path.is_file() or path.is_absolute() else data_root(None) / path


def from_here(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters with paths that hold from any folder, for a notebook that runs in its own.

    Relative ones are meant from the current folder: `root`, "folder:PATH" as `dataset`, and files
    of weights (alone, as PRESET:FILE+HEAD, or in a list) where such a file exists.
    """
    return {name: _from_here(name, value) for name, value in parameters.items()}


def _from_here(name: str, value: Any) -> Any:
    if isinstance(value, list):
        return [_from_here(name, one) for one in value]
    if not isinstance(value, str) or not value:
        return value
    if name == "root":
        return str(Path(value).expanduser().resolve())
    if name == "dataset" and value.startswith("folder:"):
        return f"folder:{Path(value.removeprefix('folder:')).expanduser().resolve()}"
    if WEIGHTS.fullmatch(name):
        preset, file, head = released(value) or ("", value, None)
        files = "+".join(_found_here(one) for one in (file, head) if one is not None)
        return f"{preset}:{files}" if preset else files
    return value


def _found_here(file: str) -> str:
    path = Path(file).expanduser()
    return str(path.resolve()) if path.is_file() else file
