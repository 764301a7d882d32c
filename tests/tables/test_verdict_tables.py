"""The table of verdicts: each dataset a column, each claim a line, written between marks alone."""

from __future__ import annotations

import runpy
from pathlib import Path

import pandas as pd
import pytest

from tttlib.tables import claims, verdict_tables

ROOT = Path(__file__).resolve().parents[2]


def keep(folder: Path, notebook: str, suffix: str, *found: tuple[str, float]) -> None:
    """A table as a notebook writes it: one line for each claim and lower bound."""
    folder.mkdir(exist_ok=True)
    rows = []
    for claim, low in found:
        row = pd.Series({"difference": low + 0.1, "low": low, "high": low + 0.2, "n": 9})
        rows.append(claims.of_difference(claim, row, unit="images", measure="b - a"))
    claims.table(rows).to_csv(folder / f"{notebook}_claims_{suffix}.csv", index=False)


def test_datasets_stand_side_by_side(tmp_path: Path) -> None:
    keep(tmp_path, "02", "a", ("it helps", 0.1))
    keep(tmp_path, "01", "a", ("it shifts", -0.1))
    keep(tmp_path, "02", "b", ("it helps", -0.9))
    table = verdict_tables.table(tmp_path, {"A": "a", "B": "b"})
    assert table["claim"].tolist() == ["it shifts", "it helps"]
    assert table.loc[1, "A"] == "**supported** +0.200 [+0.100, +0.300], 9 images"
    assert table.loc[1, "B"].startswith("**contradicted**") and table.loc[0, "B"] == ""


def test_a_column_of_several_runs(tmp_path: Path) -> None:
    keep(tmp_path, "02", "small", ("it helps", 0.1))
    keep(tmp_path, "05", "large", ("it beats", -0.9))
    table = verdict_tables.table(tmp_path, {"A": ["small", "large"]})
    assert table["A"].str[:12].tolist() == ["**supported*", "**contradict"]
    keep(tmp_path, "02", "large", ("it helps", 0.3))
    with pytest.raises(ValueError, match=r"02_claims_small/large\.csv decides 'it helps' twice"):
        verdict_tables.table(tmp_path, {"A": ["small", "large"]})


def test_a_claim_without_a_number_shows_none(tmp_path: Path) -> None:
    keep(tmp_path, "03", "a", ("it fluctuates", float("nan")))
    assert verdict_tables.table(tmp_path, {"A": "a"}).loc[0, "A"] == "**undecided**, 9 images"


def test_the_page_keeps_what_is_outside_the_marks(tmp_path: Path) -> None:
    keep(tmp_path, "02", "a", ("a | b", 0.1))
    table = verdict_tables.table(tmp_path, {"A": "a"})
    text = "before\n<!-- mark -->\nold\n<!-- end of mark -->\nafter\n"
    for _ in range(2):
        text = verdict_tables.filled(text, "mark", table)
    assert text.startswith("before\n") and text.endswith("<!-- end of mark -->\nafter\n")
    assert "old" not in text and "a \\| b" in text and text.count("supported") == 1
    with pytest.raises(ValueError, match="no lines"):
        verdict_tables.filled("no marks", "mark", table)


def test_what_cannot_be_told_is_refused(tmp_path: Path) -> None:
    keep(tmp_path, "02", "a", ("it helps", 0.1), ("it helps", 0.3))
    with pytest.raises(ValueError, match=r"02_claims_a\.csv decides 'it helps' twice"):
        verdict_tables.table(tmp_path, {"A": "a"})
    with pytest.raises(FileNotFoundError, match=r"_claims_b\.csv; publish"):
        verdict_tables.table(tmp_path, {"B": "b"})


def test_the_pages_print_what_the_committed_tables_say() -> None:
    for page, made in runpy.run_path(str(ROOT / "docs" / "findings.py"))["PAGES"].items():
        assert (ROOT / page).read_text(encoding="utf-8") == made(), "run make findings"
