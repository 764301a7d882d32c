"""Units of a small experiment, written where a test wants them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from ttt_units import PROTOCOL, UNIT, Keep, answers

from tttlib import results


@pytest.fixture
def keep(tmp_path: Path) -> Keep:
    """Writes a unit into <tmp>/<folder>; returns that folder."""

    def run(
        rows: pd.DataFrame | None = None,
        folder: str = "run/results",
        protocol: dict[str, Any] = PROTOCOL,
        **changes: Any,
    ) -> Path:
        unit = {**UNIT, **changes}
        store = results.Store(tmp_path / folder)
        store.run(unit, lambda: answers() if rows is None else rows, protocol=protocol)
        return tmp_path / folder

    return run
