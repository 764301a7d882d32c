"""No text of an exported table is a formula; numbers and all other texts stay what they are."""

from __future__ import annotations

import csv
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pytest

from tttlib import plots, results
from tttlib.results import goldens
from tttlib.results.export import csv_text, read_csv, write_csv

GOLDENS = Path(__file__).parents[1] / "goldens"

FORMULAS = [
    '=HYPERLINK("http://example.org","x")', "=1+1", "+cmd|' /C calc'!A0", "-2+3+cmd|' /C calc'!A0",
    "-2+3", "@SUM(A1:A9)", "\t=1", "\r=1", "＝1+1", "+A1",
]  # fmt: skip
HARMLESS = [
    "-1.5", "+3", "-2.5e-3", "+1.0 [-2.5, +3.0]", "-4.2 %", "-", "a=b", "1-2", "two\nl", "'x", "",
]  # fmt: skip


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


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"])
def test_tables_and_goldens_are_read_in_the_encodings_of_other_systems(
    encoding: str, tmp_path: Path
) -> None:
    (tmp_path / "t.csv").write_text("größe,n\nklein – ü,1\n", encoding=encoding, newline="\r\n")
    table = read_csv(tmp_path / "t.csv")
    assert table.to_dict("list") == {"größe": ["klein – ü"], "n": [1]}
    content = (GOLDENS / "demo.json").read_text(encoding="utf-8")
    (tmp_path / "g.json").write_text(content, encoding=encoding)
    cells, _ = goldens.read(tmp_path / "g.json")
    pd.testing.assert_frame_equal(cells, goldens.read(GOLDENS / "demo.json")[0])


def test_what_is_no_table_is_named(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"")
    with pytest.raises(ValueError, match=r"t\.csv"):
        read_csv(tmp_path / "t.csv")


def test_tables_and_units_written_at_once_are_whole(tmp_path: Path) -> None:
    table = pd.DataFrame({"x": range(20_000)})
    store, unit = results.Store(tmp_path), {"experiment": "e"}

    def save(k: int) -> None:
        plots.save_table(table + k, tmp_path, "02_t", f"{k}" * 1000)
        store.run(unit, lambda: table + k, force=True)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(save, range(16)))
    for kept in (read_csv(tmp_path / "tables" / "02_t.csv")["x"], results.load(tmp_path)["x"]):
        assert len(kept) == 20_000 and (kept.diff().dropna() == 1).all()
    assert len(set((tmp_path / "tables" / "02_t.txt").read_text().strip())) <= 2
    left = {p.name for p in tmp_path.rglob("*") if p.is_file()}
    assert left == {"02_t.csv", "02_t.txt", store.path(unit).name}
