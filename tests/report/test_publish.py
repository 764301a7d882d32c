"""Committed figures: copied whole, entered once, and the page says what the index says."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pytest
from command_line import call

from tttlib import results
from tttlib.report import publish

HERE = Path(__file__).parents[2] / "figures"
ORIGIN = {"suffix": "tiny", "data": "50 images", "command": "tttlib run 02"}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    figures = ("02_gains.png", "02_gains.svg", "03_cost.png")
    for name in (*(f"figures/{figure}" for figure in figures), "tables/02_gains.csv"):
        path = tmp_path / "run" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
        path.with_suffix(".txt").write_text(f"caption of {name}\n")
    store = results.Store(tmp_path / "run" / "results")
    store.run({"experiment": "e"}, lambda: pd.DataFrame({"x": [1.0]}))
    return tmp_path / "run"


def test_figures_are_copied_and_entered(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "figures"
    folder.mkdir()
    copies = publish.publish(run, folder, **ORIGIN, names=["02_gains"])
    assert [c.name for c in copies] == ["02_gains_tiny.svg", "02_gains_tiny.csv"]
    assert (folder / "02_gains_tiny.svg").read_bytes() == b"figures/02_gains.svg"
    table = publish.index(folder).set_index("file")
    assert table.loc["02_gains_tiny.csv", "what"] == "caption of tables/02_gains.csv"
    assert len(table.loc["02_gains_tiny.csv", "commit"]) in (1, 7)
    publish.publish(run, folder, **{**ORIGIN, "data": "99 images"})
    table = publish.index(folder)
    assert table["file"].is_unique and len(table) == 3 and set(table["data"]) == {"99 images"}
    assert (folder / "README.md").read_text() == publish.page(table)
    assert not [p for p in folder.glob(".*") if p.name != ".lock"]


def test_a_figure_too_large_as_svg_is_png(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish.publish(run, tmp_path, **ORIGIN)
    monkeypatch.setattr(publish, "LARGEST_SVG", 3)
    publish.publish(run, tmp_path, **ORIGIN, names=["02_gains"])
    assert (tmp_path / "02_gains_tiny.png").exists() and not list(tmp_path.glob("*.svg"))
    assert "02_gains_tiny.svg" not in set(publish.index(tmp_path)["file"])


def test_other_rows_have_another_digest(run: Path, tmp_path: Path) -> None:
    publish.publish(run, tmp_path, **ORIGIN)
    before = publish.digest_of_rows(tmp_path, "tiny")
    assert set(publish.index(tmp_path)["rows"]) == {before}
    store = results.Store(run / "results")
    store.run({"experiment": "e", "seed": 1}, lambda: pd.DataFrame({"x": [2.0]}))
    publish.publish(run, tmp_path, **ORIGIN, names=["02_gains"])
    table = publish.index(tmp_path).set_index("file")["rows"]
    assert table["02_gains_tiny.svg"] == publish.digest_of_rows(tmp_path, "tiny") != before
    assert table["03_cost_tiny.png"] == before  # stale, and it can be told


def test_a_figure_that_the_run_lacks_is_named(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no 09_nothing; it has 02_gains, 03_cost"):
        publish.publish(run, tmp_path, **ORIGIN, names=["09_nothing"])
    with pytest.raises(ValueError, match="no figures; it has nothing"):
        publish.publish(tmp_path / "empty", tmp_path, **ORIGIN)


def test_the_command_publishes(run: Path, tmp_path: Path) -> None:
    words = [w for name, text in ORIGIN.items() for w in (f"--{name}", text)]
    ended = call("publish", run, *words, "--name", "03_cost", "--to", tmp_path / "new")
    assert ended.code == 0 and "03_cost_tiny.png" in ended.out
    assert publish.index(tmp_path / "new")["command"].tolist() == [ORIGIN["command"]]


def test_runs_published_at_once_are_all_entered(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = publish.index

    def slowly(folder: Path) -> pd.DataFrame:
        table = read(folder)
        time.sleep(0.1)
        return table

    publish.publish(run, tmp_path, **ORIGIN)
    monkeypatch.setattr(publish, "index", slowly)
    with ThreadPoolExecutor(3) as pool:
        for suffix in "abc":
            pool.submit(publish.publish, run, tmp_path, **{**ORIGIN, "suffix": suffix})
    assert len(read(tmp_path)) == 12


def test_every_committed_figure_is_in_the_index_and_the_page() -> None:
    table = publish.index(HERE)
    files = {p.name for p in HERE.iterdir() if p.suffix in (".png", ".jpg", ".svg", ".csv")}
    assert set(table["file"]) == files - {"index.csv"}
    assert (table != "").all().all()
    assert (HERE / "README.md").read_text() == publish.page(table)


def test_no_committed_figure_is_older_than_its_rows() -> None:
    table = publish.index(HERE)
    kept = {p.name.removesuffix(".csv.gz") for p in (HERE / "rows").iterdir()}
    assert {name for name in kept if not any(f"_{name}." in f for f in table["file"])} == set()
    for row in table[table["rows"] != "none"].itertuples():
        (suffix,) = [name for name in kept if f"_{name}." in row.file]
        assert row.rows == publish.digest_of_rows(HERE, suffix), f"publish {suffix} again"
