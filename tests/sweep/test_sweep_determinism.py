"""The same grid gives the same rows on every engine, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from sweeping import rows, run, units_of

from tttlib import sweep

ENGINES = ("local", "dask", "slurm")


@pytest.mark.parametrize("engine", ENGINES)
def test_the_same_grid_twice_gives_the_rows_of_a_serial_run(engine: str, tmp_path: Path) -> None:
    units = units_of(number=[1, 2], seed=[0, 1])[: 4 if engine != "slurm" else 2]
    run(units, tmp_path / "serial", "serial")
    for out in (tmp_path / "a", tmp_path / "b"):
        summary = run(units, out, engine)
        assert (summary.done, summary.failed) == (len(units), [])
        pd.testing.assert_frame_equal(rows(out), rows(tmp_path / "serial"), check_exact=True)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_real_experiments_are_the_same_everywhere(engine: str, tmp_path: Path) -> None:
    small: dict[str, Any] = {"options": {"n": 40}, "n_images": 6, "batch_size": 2}
    grid = [
        {
            "experiment": "standard",
            "parameters": {**small, "steps": 2, "chunk": 4, "parallel": 2},
            "grid": {"corruption": ["fog"]},
        },
        {"experiment": "online", "parameters": {**small, "corruptions": ["fog", "snow"]}},
        {
            "experiment": "adaptation",
            "parameters": {**small, "corruptions": ["fog", "snow"]},
            "grid": {"method": ["palm"]},
        },
    ]
    units = sweep.expand({"sweeps": grid})
    run(units, tmp_path / "serial", "serial")
    for out in (tmp_path / "a", tmp_path / "b"):
        assert run(units, out, engine).done == len(units)
        found, wanted = (rows(o).drop(columns="git_sha") for o in (out, tmp_path / "serial"))
        pd.testing.assert_frame_equal(found, wanted, check_exact=True)
