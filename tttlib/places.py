"""Which folders of the user's hold datasets, and what can be made from them again."""

from __future__ import annotations

import os
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
