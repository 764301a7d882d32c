"""Workers of every kind import the trivial experiment by its name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    here, root = Path(__file__).parent, Path(__file__).resolve().parents[2]
    known = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, filter(None, [here, root, known]))))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
