"""Tables for LaTeX."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from tttlib.results.columns import short

_SPECIAL = str.maketrans(
    {c: "\\" + c for c in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
)


def latex(table: pd.DataFrame, caption: str = "") -> str:
    """Return a table for LaTeX with the package booktabs; all texts are escaped."""
    alignment = "".join("r" if pd.api.types.is_numeric_dtype(table[c]) else "l" for c in table)
    lines = [rf"\begin{{tabular}}{{{alignment}}}", r"\toprule"]
    lines += [_row(table.columns), r"\midrule", *map(_row, table.itertuples(index=False))]
    lines += [r"\bottomrule", r"\end{tabular}"]
    if caption:
        heading = [r"\begin{table}", r"\centering", rf"\caption{{{caption.translate(_SPECIAL)}}}"]
        lines = [*heading, *lines, r"\end{table}"]
    return "\n".join(lines) + "\n"


def _row(cells: Iterable[object]) -> str:
    return " & ".join(short(cell).translate(_SPECIAL) for cell in cells) + r" \\"
