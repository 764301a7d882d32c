"""No text of an exported table is a formula; numbers and all other texts stay what they are."""

from __future__ import annotations

import csv
from pathlib import Path

import pandas as pd
import pytest

from tttlib import plots
from tttlib.results.export import csv_text, write_csv

FORMULAS = [
    '=HYPERLINK("http://example.org","x")', "=1+1", "+cmd|' /C calc'!A0", "-2+3+cmd|' /C calc'!A0",
    "-2+3", "@SUM(A1:A9)", "\t=1", "\r=1", "＝1+1", "+A1",
]  # fmt: skip
HARMLESS = [
    "-1.5",
    "+3",
    "-2.5e-3",
    "+1.0 [-2.5, +3.0]",
    "-4.2 %",
    "-",
    "a=b",
    "1-2",
    "two\nlines",
    "'x",
    "",
]


@pytest.mark.parametrize("text", FORMULAS)
def test_a_formula_becomes_text(text: str, tmp_path: Path) -> None:
    table = pd.DataFrame({text: ["x"], "cell": [text], "choice": pd.Categorical([text])})
    write_csv(tmp_path / "new" / "t.csv", table)
    with (tmp_path / "new" / "t.csv").open(encoding="utf-8", newline="") as file:
        header, row = csv.reader(file)
    assert [header[0], *row[1:]] == ["'" + text.replace("\r", "\n")] * 3
    assert csv_text(pd.read_csv(tmp_path / "new" / "t.csv")) == csv_text(table)


def test_numbers_and_other_texts_stay() -> None:
    table = pd.DataFrame({"text": HARMLESS, "-number": -1.5, "none": None, "right": True})
    assert "\r" not in csv_text(pd.DataFrame({"text": ["x\r=1+1"]}))
    assert csv_text(table) == table.rename(columns={"-number": "'-number"}).to_csv(index=False)


def test_tables_of_a_run_are_exported_so(tmp_path: Path) -> None:
    plots.save_table(pd.DataFrame({"claim": ["=1+1"], "d": [-1]}), tmp_path, "02_t", "c")
    assert (tmp_path / "tables" / "02_t.csv").read_text() == "claim,d\n'=1+1,-1\n"
