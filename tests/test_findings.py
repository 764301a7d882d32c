"""The table of verdicts: each run a column, each claim a line, written between marks alone."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from tttlib import claims, findings, results


def run(folder: Path, notebook: str, claim: str, low: float, **unit: object) -> None:
    row = pd.Series({"difference": low + 0.1, "low": low, "high": low + 0.2, "n": 9})
    one = claims.of_difference(claim, row, unit="images", measure="b - a")
    claims.keep(results.Store(folder / "results"), {"notebook": notebook, **unit}, [one])


def test_runs_stand_side_by_side(tmp_path: Path) -> None:
    run(tmp_path / "a", "02", "it helps", 0.1)
    run(tmp_path / "a", "01", "it shifts", -0.1)
    run(tmp_path / "b", "02", "it helps", -0.9)
    table = findings.table({"A": tmp_path / "a", "B": tmp_path / "b"})
    assert table["claim"].tolist() == ["it shifts", "it helps"]
    assert table.loc[1, "A"] == "**supported** +0.200 [+0.100, +0.300], 9 images"
    few = findings.table({"A": tmp_path / "a"}, notebooks=["01"])
    assert few["claim"].tolist() == ["it shifts"]
    assert table.loc[1, "B"].startswith("**contradicted**") and table.loc[0, "B"] == ""


def test_the_page_keeps_what_is_outside_the_marks(tmp_path: Path) -> None:
    run(tmp_path / "a", "02", "a | b", 0.1)
    page = tmp_path / "page.md"
    page.write_text(f"before\n{findings.BEGIN}\nold\n{findings.END}\nafter\n")
    for _ in range(2):
        findings.write({"A": tmp_path / "a"}, page)
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith(f"{findings.END}\nafter\n")
    assert "old" not in text and "a \\| b" in text and text.count("supported") == 1
    page.write_text("no marks")
    with pytest.raises(ValueError, match="no lines"):
        findings.write({"A": tmp_path / "a"}, page)
    assert page.read_text() == "no marks"


def test_two_settings_in_one_folder_are_refused(tmp_path: Path) -> None:
    run(tmp_path / "a", "02", "it helps", 0.1)
    run(tmp_path / "a", "02", "it helps", 0.1, steps=9)
    with pytest.raises(ValueError, match="decides 'it helps' twice"):
        findings.table({"A": tmp_path / "a"})
