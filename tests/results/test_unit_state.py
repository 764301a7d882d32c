"""Rows of units that failed, were broken off or lost files are left out, and that is told."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import call
from ttt_units import Keep, finish

from tttlib import results
from tttlib.results.compare import cells_of


@pytest.fixture
def sweep(keep: Keep, tmp_path: Path) -> Path:
    """A sweep of three units with two result files each, all done."""
    domains = [("fog", "snow"), ("frost", "contrast"), ("jpeg_compression", "pixelate")]
    for key, pair in zip("abc", domains, strict=True):
        for domain in pair:
            unit = keep(folder=f"sweep/units/{key}/results", domain=domain).parent
        finish(unit)
    listed = {"units": [{"key": key} for key in "abc"], "uses": {}, "runs": []}
    (tmp_path / "sweep" / "sweep.json").write_text(json.dumps(listed))
    return tmp_path / "sweep"


def _first(unit: Path) -> Path:
    return min(unit.glob("results/*.parquet"))


DAMAGE: list[tuple[str, Callable[[Path], object]]] = [
    ("failed", lambda unit: finish(unit, "failed")),
    ("not finished", lambda unit: finish(unit, "running")),
    ("not run, or lost", shutil.rmtree),
    ("not run, or lost", lambda unit: (unit / "unit.json").unlink()),
    ("not run, or lost", lambda unit: (unit / "unit.json").write_text('{"state": "do')),
    ("not run, or lost", lambda unit: (unit / "unit.json").write_text('{"state": "done"}')),
    ("damaged", lambda unit: _first(unit).unlink()),
    ("damaged", lambda unit: _first(unit).write_bytes(b"PAR1")),
    ("damaged", lambda unit: shutil.copy(max(unit.glob("results/*")), _first(unit))),
]


@pytest.mark.parametrize(("state", "damage"), DAMAGE)
def test_a_unit_that_is_not_done_is_left_out_whole(
    sweep: Path,
    state: str,
    damage: Callable[[Path], object],
    caplog: pytest.LogCaptureFixture,
) -> None:
    whole = cells_of(sweep)
    damage(sweep / "units" / "b")
    said = f"1 of 3 units of {sweep} are left out: 1 {state}"
    code, out, _ = call("results", sweep, "--where", "step=last")
    assert code == 0 and said in out and "fog" in out
    assert "frost" not in out and "contrast" not in out
    assert len(cells_of(sweep)) == len(whole) * 2 // 3 and said in caplog.text
    assert len(results.result_files([sweep, sweep / "units" / "a" / "results"])) == 4
    for folder in (sweep / "units" / "b", sweep / "units" / "b" / "results"):
        with pytest.raises(FileNotFoundError, match=r"no folder|no finished units"):
            results.result_files([folder])


def test_lost_units_are_missing_in_a_comparison(sweep: Path, tmp_path: Path) -> None:
    (tmp_path / "before").mkdir()
    for i, path in enumerate(results.result_files([sweep])):
        (tmp_path / "before" / f"{i}.parquet").write_bytes(path.read_bytes())
    assert call("compare", tmp_path / "before", sweep).code == 0
    finish(sweep / "units" / "c", "failed")
    code, out, _ = call("compare", tmp_path / "before", sweep)
    assert code == 1 and "4 missing" in out


def test_files_that_a_unit_did_not_make_are_not_read(sweep: Path, keep: Keep) -> None:
    keep(folder="sweep/units/a/results", domain="brightness")  # of an earlier, failed try
    assert len(results.result_files([sweep])) == 6


def test_a_study_with_a_notebook_that_failed_says_so(keep: Keep, tmp_path: Path) -> None:
    keep()
    (tmp_path / "run" / "study.json").write_text("{}")
    for name, state in (("01_a", "done"), ("02_b", "failed")):
        (tmp_path / "run" / "units" / name).mkdir(parents=True)
        finish(tmp_path / "run" / "units" / name, state)
    (summary,) = results.tabulate([tmp_path / "run"])
    assert summary.table["n"].tolist() == [4, 4]
    assert len(summary.notes) == 1 and "not done" in summary.notes[0] and "02_b" in summary.notes[0]
