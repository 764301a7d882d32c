"""Which folders of the user's hold datasets and weights, and what can be made from them again."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pooch


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
