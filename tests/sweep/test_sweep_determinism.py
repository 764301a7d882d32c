"""The same grid gives the same rows on every engine, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from sweeping import run, units_of

from tttlib import sweep

ENGINES = ("local", "dask", "slurm")


def _check(units: list[sweep.Unit], engine: str, folder: Path, again: str) -> None:
    outs = {folder / "serial": "serial", **dict.fromkeys((folder / name for name in again), engine)}
    for out, name in outs.items():
        summary = run(units, out, name)
        assert (summary.done, summary.failed) == (len(units), [])
    wanted, *found = (sweep.load(out).drop(columns=["git_sha", "code"]) for out in outs)
    for rows in found:
        pd.testing.assert_frame_equal(rows, wanted, check_exact=True)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_same_grid_gives_the_rows_of_a_serial_run(engine: str, tmp_path: Path) -> None:
    units = units_of(number=[1, 2], seed=[0, 1])[: 4 if engine != "slurm" else 2]
    _check(units, engine, tmp_path, "a")


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_real_experiments_are_the_same_everywhere(engine: str, tmp_path: Path) -> None:
    small: dict[str, Any] = {"options": {"n": 40}, "n_images": 6, "batch_size": 2}
    chunks = {"steps": 2, "chunk": 4, "parallel": 2, "corruption": "fog"}
    two = {**small, "corruptions": ["fog", "snow"]}
    grid = [
        {"experiment": "standard", "parameters": {**small, **chunks}},
        {"experiment": "online", "parameters": two},
        {"experiment": "adaptation", "parameters": {**two, "method": "palm"}},
    ]
    _check(sweep.expand({"sweeps": grid}), engine, tmp_path, "ab")
