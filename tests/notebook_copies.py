"""Copies of the notebooks that nbval runs in minutes: `python tests/notebook_copies.py FOLDER`.

`start_*` are the first cells as they are, up to the last one whose stored output nbval compares.
`whole_*` are whole notebooks with the small parameters of `test_notebooks.TINY`; those that
`test_notebooks` runs itself, to look at their rows, are left out.
"""

from __future__ import annotations

import copy
import logging
import shutil
import sys
from pathlib import Path

import nbformat
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook
from test_notebooks import EXECUTED, TINY

from tttlib import sweep

COMPARED = "# NBVAL_CHECK_OUTPUT"


def write(folder: Path) -> None:
    """Write the copies into `folder`, instead of what was there."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for path in sorted(sweep.notebooks_folder().glob("0*.ipynb")):
        notebook = load_notebook_node(str(path))
        compared = [i for i, cell in enumerate(notebook.cells) if COMPARED in cell.source]
        start = copy.deepcopy(notebook)
        start.cells = start.cells[: compared[-1] + 1]
        nbformat.write(start, folder / f"start_{path.name}")

        if path.stem in EXECUTED:
            continue
        small = {**TINY[path.stem], "run_dir": str((folder / "run").resolve())}
        whole = parameterize_notebook(notebook, small)
        for cell in whole.cells:  # with other parameters other outputs are right
            cell.source = cell.source.replace(COMPARED, "")
        nbformat.write(whole, folder / f"whole_{path.name}")


if __name__ == "__main__":
    logging.getLogger("papermill").setLevel(logging.ERROR)
    write(Path(sys.argv[1]))
