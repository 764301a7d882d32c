"""Running notebooks and grids of them: here, on all cores, on a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tttlib.sweep.grid import Unit, expand, read_grid
from tttlib.sweep.notebooks import (
    NotebookError,
    check_parameters,
    declared_parameters,
    find_notebook,
    notebooks_folder,
    parse_value,
    read_parameters,
    run_notebook,
)
from tttlib.sweep.running import Summary, SweepError, read_plan, run_sweep, unit_folder

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "NotebookError",
    "Summary",
    "SweepError",
    "Unit",
    "check_parameters",
    "declared_parameters",
    "expand",
    "find_notebook",
    "load",
    "notebooks_folder",
    "overview",
    "parse_value",
    "read_grid",
    "read_parameters",
    "read_plan",
    "run_notebook",
    "run_sweep",
    "unit_folder",
]


def load(out: str | Path) -> pd.DataFrame:
    """All result rows of a sweep's done units, see `overview.load`."""
    from tttlib.sweep import overview

    return overview.load(out)


def overview(out: str | Path) -> pd.DataFrame:
    """One row per unit of a sweep, see `overview.overview`."""
    from tttlib.sweep import overview

    return overview.overview(out)
