"""Notebooks of a few cells."""

from __future__ import annotations

from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook


def write_notebook(
    path: Path, *cells: str, parameters: str = "run_dir = ''", text: str = "# A question"
) -> Path:
    """A title, the cell of parameters, and code; no kernelspec, which papermill alone refuses."""
    first = new_code_cell(parameters.strip(), metadata={"tags": ["parameters"]})
    code = [new_code_cell(source.strip()) for source in cells]
    nbformat.write(new_notebook(cells=[new_markdown_cell(text), first, *code]), path)
    return path
