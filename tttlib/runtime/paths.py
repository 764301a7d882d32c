"""The user's folders: of datasets and weights, and of what can be made from them again."""

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
    """Return the folder of the datasets: `root`, else $TTTLIB_DATA, else the user's cache."""
    if root is not None:
        return Path(root).expanduser()
    if os.environ.get("TTTLIB_DATA"):
        return Path(os.environ["TTTLIB_DATA"]).expanduser()
    return cache_root() / "data"


def cache_root() -> Path:
    """Return the folder for what can be made again: $TTTLIB_CACHE, else the user's cache."""
    return Path(os.environ.get("TTTLIB_CACHE") or pooch.os_cache("tttlib")).expanduser()


def released(text: str | Path) -> tuple[str, str, str | None] | None:
    """Split "PRESET:FILE" or "PRESET:FILE+HEAD" into its parts; None for any other text."""
    named = re.fullmatch(r"([a-z][\w-]+):([^+]+)(?:\+(.+))?", str(text))
    return (named[1], named[2], named[3]) if named else None


def weights_file(path: str | Path) -> Path:
    """Return `path` as seen from the current folder, or else in the folder of the datasets."""
    path = Path(path).expanduser()
    return path if path.is_file() or path.is_absolute() else data_root(None) / path


def from_here(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters whose paths hold from any folder, for a notebook that runs in its own.

    Relative paths are meant from the current folder: `root`, "folder:PATH" as `dataset`, and files
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
        files = "+".join(_existing(one) for one in (file, head) if one is not None)
        return f"{preset}:{files}" if preset else files
    return value


def _existing(file: str) -> str:
    path = Path(file).expanduser()
    return str(path.resolve()) if path.is_file() else file
