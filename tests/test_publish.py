"""Committed figures: copied whole, entered once, and the page says what the index says."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from tttlib import publish, results

HERE = Path(__file__).parent.parent / "figures"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    for name in ("figures/02_gains.png", "tables/02_gains.csv", "figures/03_cost.png"):
        path = tmp_path / "run" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
        path.with_suffix(".txt").write_text(f"caption of {name}\n")
    store = results.Store(tmp_path / "run" / "results")
    store.run({"experiment": "e"}, lambda: pd.DataFrame({"x": [1]}))
    return tmp_path / "run"


def test_figures_are_copied_and_entered(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "figures"
    folder.mkdir()
    what = {"suffix": "tiny", "data": "50 images", "command": "tttlib run 02"}
    copies = publish.publish(run, folder, **what, names=["02_gains"])
    assert [c.name for c in copies] == ["02_gains_tiny.png", "02_gains_tiny.csv"]
    assert (folder / "02_gains_tiny.png").read_bytes() == b"figures/02_gains.png"
    table = publish.index(folder).set_index("file")
    assert table.loc["02_gains_tiny.csv", "what"] == "caption of tables/02_gains.csv"
    assert len(table.loc["02_gains_tiny.csv", "commit"]) in (1, 7)
    publish.publish(run, folder, **{**what, "data": "99 images"})
    table = publish.index(folder)
    assert table["file"].is_unique and len(table) == 3 and set(table["data"]) == {"99 images"}
    assert (folder / "README.md").read_text() == publish.page(table)
    assert not list(folder.glob(".*"))


def test_a_figure_that_the_run_lacks_is_named(run: Path, tmp_path: Path) -> None:
    what = {"suffix": "s", "data": "d", "command": "c"}
    with pytest.raises(ValueError, match="no 09_nothing; it has 02_gains, 03_cost"):
        publish.publish(run, tmp_path, **what, names=["09_nothing"])
    with pytest.raises(ValueError, match="no figures; it has nothing"):
        publish.publish(tmp_path / "empty", tmp_path, **what)


def test_every_committed_figure_is_in_the_index_and_the_page() -> None:
    table = publish.index(HERE)
    files = {p.name for p in HERE.iterdir() if p.suffix in (".png", ".jpg", ".svg", ".csv")}
    assert set(table["file"]) == files - {"index.csv"}
    assert (table != "").all().all()
    assert (HERE / "README.md").read_text() == publish.page(table)
