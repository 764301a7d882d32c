"""Running notebooks and grids of them: here, on all cores, on a cluster."""

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

__all__ = [
    "NotebookError",
    "check_parameters",
    "declared_parameters",
    "find_notebook",
    "notebooks_folder",
    "parse_value",
    "read_parameters",
    "run_notebook",
]
