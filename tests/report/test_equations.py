"""Equations of the report need neither a script nor a font from elsewhere."""

import re
from pathlib import Path

import nbformat
import pytest

from tttlib.report.equations import Equations

ROOT = Path(__file__).resolve().parents[2]


def converted(text: str) -> str:
    equations = Equations()
    return equations.put_back(equations.taken_out(text))


def test_blocks_and_inline_equations_become_mathml() -> None:
    page = converted("With $x_1$:\n\n$$y = \\frac{a}{b}$$\n")
    assert page.startswith('With <math xmlns="http://www.w3.org/1998/Math/MathML" display="inline"')
    assert 'display="block"' in page and "<mfrac>" in page and "<msub>" in page
    assert "$" not in page


@pytest.mark.parametrize(
    "text", ["`$TTTLIB_DATA` and `$HOME`", "```\na=$x b=$y\n```", "5 $ and 6 $", r"\$x\$"]
)
def test_what_is_no_equation_stays(text: str) -> None:
    assert converted(text) == text


@pytest.mark.parametrize("path", sorted(ROOT.glob("notebooks/0*.ipynb")), ids=lambda p: p.stem)
def test_every_equation_of_the_notebooks_can_be_shown(path: Path) -> None:
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "markdown":
            page = converted(cell.source)
            assert not re.search(r"<mi>\\|<mo>\\", page), "a command that is not known"
            assert "$$" not in page
