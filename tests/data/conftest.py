"""Decoded images and remembered fingerprints go to the test's own folder."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TTTLIB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"
