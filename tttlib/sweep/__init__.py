"""Running notebooks and grids of them: here, on all cores, on a cluster."""

from __future__ import annotations

from tttlib.sweep.grid import Unit, expand, read_grid
from tttlib.sweep.notebooks import NotebookError, find_notebook, notebooks_folder, run_notebook
from tttlib.sweep.orchestrator import SweepError
from tttlib.sweep.parameters import check_parameters, declared_parameters
from tttlib.sweep.plan_file import read_plan
from tttlib.sweep.sweeps import Summary, run_sweep, unit_folder
from tttlib.sweep.unit_tables import load, overview
from tttlib.sweep.yaml_input import parse_value, read_parameters

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
