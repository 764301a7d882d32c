"""Tables for LaTeX."""

from __future__ import annotations

import pandas as pd

from tttlib.results.mixing import short


def latex(table: pd.DataFrame, caption: str = "") -> str:
    """A table for LaTeX with the package booktabs."""
    numeric = [pd.api.types.is_numeric_dtype(table[c]) for c in table]
    lines = [r"\begin{tabular}{" + "".join("r" if n else "l" for n in numeric) + "}", r"\toprule"]
    lines += [" & ".join(_escaped(str(c)) for c in table) + r" \\", r"\midrule"]
    lines += [
        " & ".join(_escaped(short(v)) for v in row) + r" \\"
        for row in table.itertuples(index=False)
    ]
    lines += [r"\bottomrule", r"\end{tabular}"]
    if caption:
        inner = ["\\centering", f"\\caption{{{_escaped(caption)}}}", *lines]
        lines = [r"\begin{table}", *inner, r"\end{table}"]
    return "\n".join(lines) + "\n"


_SPECIAL = {c: "\\" + c for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}


def _escaped(text: str) -> str:
    return "".join(_SPECIAL.get(c, c) for c in text)
