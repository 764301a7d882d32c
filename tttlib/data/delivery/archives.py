"""What publishers offer for download (`archives.yaml`), and checksums of its files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Archive:
    """One file of a publisher; `archives.yaml` says what its fields mean."""

    url: str
    file: str
    checksum: str | None
    published: str
    folders: tuple[str, ...] = ()
    into: str = ""


def _archive(entry: dict[str, Any]) -> Archive:
    file = Path(urlsplit(entry["url"]).path).name
    folders = tuple(entry.get("folders", ()))
    return Archive(**{"file": file, "checksum": None, **entry, "folders": folders})


_LISTED = yaml.safe_load((_HERE / "archives.yaml").read_text(encoding="utf-8"))
ARCHIVES = {name: tuple(map(_archive, entries)) for name, entries in _LISTED["archives"].items()}
INSTEAD: dict[str, str] = _LISTED["instead"]
"""Name of a dataset that cannot be fetched -> what to do instead."""
PUBLISHED: dict[str, dict[str, str]] = {}
"""Folder -> file -> md5."""
for _line in (_HERE / "published.md5").read_text(encoding="utf-8").splitlines():
    if not _line.startswith("#"):
        _digest, _path = _line.split()
        PUBLISHED.setdefault(_path.partition("/")[0], {})[_path.partition("/")[2]] = _digest
