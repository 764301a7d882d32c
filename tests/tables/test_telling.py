"""The head of a notebook is filled by its end, also in the notebook as it is stored."""

from pathlib import Path

import nbclient
import nbformat
import pytest

SETUP = """
from matplotlib.figure import Figure
from tttlib import plots
from tttlib.tables import telling
from tttlib.tables.claims import Claim
opening = telling.Opening()
"""
END = """
figure = Figure()
figure.subplots().plot([0, 1])
plots.save(figure, ".", "one", "A line.")
found = [Claim("TTT helps", 0.02, 0.011, 0.03, 600, "images", "above")]
telling.answer(*found)
opening.tell(found, ["TTT helps"], ".", "one")
"""


def executed(*cells: str, folder: Path) -> list[list[nbformat.NotebookNode]]:
    """Return the outputs of the cells of a notebook that was run in `folder`."""
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbclient.NotebookClient(book, kernel_name="python3", resources={"metadata": {"path": folder}}
                            ).execute()  # fmt: skip
    return [cell.outputs for cell in book.cells]


def test_the_end_fills_the_head(tmp_path: Path):
    head, end = executed(SETUP, END, folder=tmp_path)
    text, picture = (output.data for output in head)
    assert (
        "- “TTT helps”: +2.0 points [+1.1, +3.0] (600 images): **held**." in text["text/markdown"]
    )
    assert "1 of 1 statements are decided" in text["text/markdown"]
    assert picture["image/png"].startswith("iVBOR")
    assert not any("opening" in str(output) or "What was found" in str(output) for output in end)
    assert "**Result.**" in end[-1].data["text/markdown"]


def test_a_notebook_that_stops_early_says_that_nothing_stands_there_yet(tmp_path: Path):
    (head,) = executed(SETUP, folder=tmp_path)
    assert "will stand here" in head[0].data["text/markdown"]


def test_a_figure_that_was_not_saved(tmp_path: Path):
    with pytest.raises(nbclient.exceptions.CellExecutionError, match="FileNotFoundError"):
        executed(SETUP, END.replace('".", "one")', '".", "two")'), folder=tmp_path)
