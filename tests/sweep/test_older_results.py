"""What commit 3c1807f wrote is read, resumed and compared by today's code.

Its sweep, run and study lie in tests/goldens/written_by_3c1807f, beside the grid and the notebooks
that made them; records and rows are as that commit wrote them, but for the machine's name.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tttlib import results, sweep
from tttlib.commands import run as run_command
from tttlib.commands import study
from tttlib.results import goldens
from tttlib.sweep import forecast, notebooks
from tttlib.sweep.engines import serial

OLD = Path(__file__).parents[1] / "goldens" / "written_by_3c1807f"


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the folder, from which the commands were called."""
    shutil.copytree(OLD, tmp_path / "old")
    monkeypatch.chdir(tmp_path / "old")
    return tmp_path / "old"


def _files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*.parquet")}


def test_a_sweep_is_resumed_without_computing(
    old: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(serial, "run_unit", lambda _: pytest.fail("it was computed again"))
    before = _files(old)
    summary = sweep.run_sweep("grid.yaml", "sweep", engine="serial", progress=False)
    assert (summary.total, summary.earlier, summary.failed) == (6, 6, [])
    assert "6 units were computed by code 0.1.0 3c1807f928b7" in caplog.text
    assert _files(old) == before
    assert forecast.forecast("grid.yaml", "sweep").states == {"done": 6}
    rows = sweep.load("sweep")
    assert len(rows) == 4 * 2 + 2 * 2 * 2 + 4 * 2
    assert set(rows["code"]) == {"0.1.0 3c1807f928b7"}
    assert list(sweep.overview("sweep")["state"]) == ["done"] * 6


def test_what_is_lost_of_a_sweep_is_computed_again_and_is_the_same(old: Path) -> None:
    """The built-in experiments of today give the rows of that commit, up to rounding."""
    before = sweep.load("sweep")
    for name in ("source", "ttt"):
        for path in old.glob(f"sweep/units/*/results/{name}-*.parquet"):
            path.unlink()
    summary = sweep.run_sweep("grid.yaml", "sweep", engine="serial", progress=False)
    assert (summary.earlier, summary.done) == (2, 4)
    after = sweep.load("sweep")
    changing = ["git_sha", "device", "code", "sources"]
    after, before = (rows.drop(columns=changing) for rows in (after, before))
    assert after.pop("tile").notna().any()  # what makes scenes dependent is told more finely since
    pd.testing.assert_frame_equal(after, before, rtol=1e-3)


def test_an_edited_notebook_is_seen_in_an_old_sweep(old: Path) -> None:
    path = old / "01_tiny.ipynb"
    path.write_text(path.read_text().replace("severity=5.0", "severity=4.0"))
    with pytest.raises(ValueError, match=r"2 finished units .* edited since: 01_tiny\.ipynb"):
        sweep.run_sweep("grid.yaml", "sweep", engine="serial", progress=False)


def test_a_run_is_resumed_and_compared(
    old: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    before = _files(old / "run")
    ran: list[Path] = []

    def run_notebook(path: Path, folder: Path, parameters: Any, **_: Any) -> Path:
        ran.append(path)
        return folder / path.name

    monkeypatch.setattr(run_command, "run_notebook", run_notebook)
    run_command.run_into(old / "run", old / "01_tiny.ipynb", {})
    assert ran == [old / "01_tiny.ipynb"] and _files(old / "run") == before
    assert "which code computed the rows that are there is not known" in caplog.text
    assert not goldens.compare_paths(old / "run", old / "study").regressed


@pytest.mark.slow
def test_rows_of_an_old_run_are_read_by_the_notebook(old: Path) -> None:
    """`results.Store` knows the unit: the notebook that made the rows finds them."""
    before = _files(old / "run")
    notebooks.run_notebook("01_tiny.ipynb", "out", {"run_dir": str(old / "run")}, progress=False)
    assert _files(old / "run") == before


def test_a_study_is_read_and_not_resumed(old: Path, caplog: pytest.LogCaptureFixture) -> None:
    record = study.read_record("study")
    assert set(record["seconds"]) == {"01_tiny", "02_tiny"}
    assert len(results.load(old / "study" / "results")) == 8
    assert study._resumable(old, {**record, "code": "another"}) is None
    assert "changed: code" in caplog.text
    for field in ("seconds", "wall_seconds", "code"):  # another version kept other things
        lacking = {k: v for k, v in record.items() if k != field}
        (old / "study" / "study.json").write_text(json.dumps(lacking))
        assert study._resumable(old, record) is None
        assert f"does not say {field}" in caplog.text


def test_today_writes_what_is_needed_to_compare(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new sweep of the same grid is the old one, cell by cell."""
    grid = sweep.read_parameters("grid.yaml")
    units = sweep.expand({"sweeps": grid["sweeps"][:2]})
    sweep.run_sweep(units, "new", engine="serial", progress=False)
    for path in old.glob("sweep/units/*/results/01_tiny-*.parquet"):
        shutil.rmtree(path.parents[1])
    cells = goldens.compare_paths(old / "sweep", old / "new").cells
    assert set(cells["state"]) == {"same"}
