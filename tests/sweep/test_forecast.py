"""`tttlib sweep --dry-run`: what would run and for how long, from finished units; nothing runs."""

from __future__ import annotations

import json
from pathlib import Path

from command_line import call
from sweeping import TRIVIAL

from tttlib import sweep
from tttlib.sweep.forecast import forecast, kind_of


def _grid(folder: Path, **lists: list) -> Path:
    path = folder / "grid.yaml"
    path.write_text(json.dumps({"experiment": TRIVIAL, "grid": lists}))
    return path


def _took(out: Path, *seconds: float) -> None:
    """Write other seconds into the records of a sweep."""
    for path, one in zip(sorted(out.glob("units/*/unit.json")), seconds, strict=True):
        path.write_text(json.dumps({**json.loads(path.read_text()), "seconds": one}))


def _snapshot(folder: Path) -> dict[str, int]:
    return {str(p): p.stat().st_mtime_ns for p in folder.rglob("*")}


def test_units_states_and_hours_without_running_anything(tmp_path: Path) -> None:
    out = tmp_path / "runs" / "here"
    grid = _grid(tmp_path, number=[0], seed=[0, 1, 2])
    sweep.run_sweep(grid, out, engine="serial", progress=False)
    _took(out, 10, 3600, 7200)
    grid = _grid(tmp_path, number=[0, 1], seed=[0, 1, 2, 3], fault=[""])
    before = _snapshot(tmp_path)
    expected = forecast(grid, out)
    assert _snapshot(tmp_path) == before
    assert expected.total == 8 and expected.states == {"done": 3, "open": 5}
    assert [seconds for _, seconds in expected.todo] == [3600, None, None, None, None]
    assert expected.seconds == 3600 and expected.unknown == [TRIVIAL]
    code, said, _ = call("sweep", grid, "--out", out, "--dry-run", "--workers", "2")
    assert code == 0
    for words in (
        f"  3600.0 s  {TRIVIAL} number=0 seed=3",
        f"   unknown  {TRIVIAL} number=1 seed=0",
        "5 of 8 units would run (3 done, 5 open)",
        "1 h with 2 workers",  # no shorter than its longest unit
        "not counted: 4 units of ",
    ):
        assert words in said
    assert _snapshot(tmp_path) == before


def test_times_come_from_other_sweeps_too(tmp_path: Path) -> None:
    grid = _grid(tmp_path, seed=[0, 1])
    for name, seconds in (("runs/a", (1, 2)), ("elsewhere/b", (6, 7))):
        sweep.run_sweep(grid, tmp_path / name, engine="serial", progress=False)
        _took(tmp_path / name, *seconds)
    new = tmp_path / "runs" / "new"
    assert [s for _, s in forecast(grid, new).todo] == [1.5, 1.5]
    timings = [tmp_path / "elsewhere" / "b"]
    assert [s for _, s in forecast(grid, new, timings=timings).todo] == [4, 4]
    assert not new.exists()


def test_failed_units_run_only_when_asked_for(tmp_path: Path) -> None:
    out, grid = tmp_path / "out", _grid(tmp_path, fault=["", "raise"])
    sweep.run_sweep(grid, out, engine="serial", progress=False)
    assert forecast(grid, out).todo == []
    ((unit, seconds),) = forecast(grid, out, retry_failed=True).todo
    assert unit.parameters["fault"] == "raise" and seconds is None


def test_without_the_data_all_units_are_listed(tmp_path: Path) -> None:
    grid = tmp_path / "grid.yaml"
    grid.write_text("experiment: source\nparameters: {dataset: cifar10, root: /nowhere}\n")
    expected = forecast(grid, tmp_path / "out")
    assert len(expected.todo) == 1 and "cifar10" in expected.problem


def test_a_kind_leaves_out_what_does_not_change_the_work() -> None:
    base = {"steps": 3, "seed": 0, "sample_seed": 0, "corruption": "fog", "severity": 5.0}
    base |= {"part": 0, "root": "/a", "split": "test"}
    others = {"seed": 1, "sample_seed": 2, "corruption": "snow", "severity": 1.0, "part": 3}
    assert kind_of("standard", base) == kind_of("standard", {**base, **others, "root": "/b"})
    assert kind_of("standard", base) != kind_of("standard", {**base, "steps": 4})
    assert kind_of("standard", base) != kind_of("online", base)
