"""Units run once; what failed stays and is retried on demand; nothing is mixed."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
import trivial_experiment
from PIL import Image
from small_notebook import write_notebook
from sweeping import TRIVIAL, lines, run, states, units_of

from tttlib import sweep
from tttlib.runtime import environment
from tttlib.sweep import fingerprints, folder_lock, records, sweeps, task, worker


def test_finished_units_are_skipped_and_new_ones_added(tmp_path: Path) -> None:
    given = {"log": str(tmp_path / "log")}
    first = run(units_of(given, seed=[0, 1]), tmp_path / "out")
    assert (first.total, first.earlier, first.done, first.failed) == (2, 0, 2, [])
    more = run(units_of(given, seed=[0, 1, 2]), tmp_path / "out")
    assert (more.total, more.earlier, more.done) == (3, 2, 1)
    assert lines(tmp_path / "log", "start") == ["0 0", "0 1", "0 2"]
    found = sweep.load(tmp_path / "out")
    assert list(found["seed"]) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert found["sweep_unit"].nunique() == 3


def test_a_record_tells_what_ran_where_with_what_code(tmp_path: Path) -> None:
    (unit,) = units_of({"seconds": 0.05, "fault": "warn"}, number=[4])
    run([unit], tmp_path)
    folder = sweep.unit_folder(tmp_path, unit.key)
    record = json.loads((folder / "unit.json").read_text())
    assert record["state"] == "done" and record["parameters"]["number"] == 4
    assert record["label"] == f"{TRIVIAL} number=4"
    assert 0.05 <= record["seconds"] < 5
    assert record["code"] == worker.code_version() and record["host"]
    assert list(record["files"]) == [p.name for p in (folder / "results").iterdir()]
    assert "WARNING mind the gap" in (folder / "log.txt").read_text()
    plan = sweep.read_plan(tmp_path)
    assert plan["units"][0]["key"] == unit.key and plan["runs"][0]["engine"] == "serial"


def test_a_failed_unit_is_kept_with_its_traceback_and_retried_on_demand(tmp_path: Path) -> None:
    units, out = units_of({"log": str(tmp_path / "log")}, fault=["", "raise"]), tmp_path / "out"
    first = run(units, out)
    (record,) = first.failed
    assert first.done == 1 and record["error"] == "ArithmeticError: two and two"
    text = first.where(record).read_text()
    assert text.startswith("Traceback") and text.rstrip().endswith("are five")
    again = run(units, out)
    assert [r["key"] for r in again.failed] == [record["key"]] and again.earlier == 1
    assert len(lines(tmp_path / "log", "start")) == 2
    assert len(run(units, out, retry_failed=True).failed) == 1
    assert len(lines(tmp_path / "log", "start")) == 3 and states(out) == ["done", "failed"]


def test_a_notebook_runs_in_its_units_folder_and_fails_with_its_copy(tmp_path: Path) -> None:
    body = (
        "from pathlib import Path\nfrom trivial_experiment import write_rows\n"
        "assert number < 3, 'too many'\n"
        "write_rows(Path(run_dir), {'experiment': 'nb', 'number': number, 'seed': 0})"
    )
    path = write_notebook(tmp_path / "tiny.ipynb", body, parameters="number = 1\nrun_dir = '.'")
    units = sweep.expand({"notebook": str(path), "grid": {"number": [2, 3]}})
    summary = run(units, tmp_path / "out")
    assert summary.done == 1
    assert list(sweep.load(tmp_path / "out")["number"]) == [2, 2, 2]
    (record,) = summary.failed
    assert "cell [3]" in record["error"] and "AssertionError: too many" in record["error"]
    assert summary.where(record).name == "tiny.failed.ipynb"
    done = sweep.unit_folder(tmp_path / "out", units[0].key)
    assert (done / "notebooks" / "tiny.ipynb").exists()


def test_a_damaged_or_lost_result_file_is_computed_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    units = units_of(seed=[0, 1, 2])
    run(units, tmp_path)
    before = sweep.load(tmp_path)
    folders = [sweep.unit_folder(tmp_path, unit.key) for unit in units]
    paths = [next(folder.glob("results/*.parquet")) for folder in folders]
    paths[0].write_bytes(paths[0].read_bytes()[:-20])
    paths[1].unlink()
    with pytest.raises(ValueError, match="is damaged"):
        sweep.load(tmp_path)
    summary = run(units, tmp_path)
    assert (summary.earlier, summary.done) == (1, 2)
    assert f"{paths[0]} is damaged" in caplog.text and f"{paths[1]} is gone" in caplog.text
    assert paths[0].with_name(f"{paths[0].name}.damaged").exists()
    pd.testing.assert_frame_equal(sweep.load(tmp_path), before)


@pytest.mark.parametrize("lacking", ["key", "code", "session", "files", "the end"])
def test_a_damaged_record_is_no_record(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, lacking: str
) -> None:
    (unit,) = units_of()
    run([unit], tmp_path)
    path = sweep.unit_folder(tmp_path, unit.key) / "unit.json"
    text = path.read_text()
    whole = json.dumps({k: v for k, v in json.loads(text).items() if k != lacking})
    path.write_text(text[:-9] if lacking == "the end" else whole)
    assert states(tmp_path) == ["open"]
    assert run([unit], tmp_path).done == 1
    assert "unit.json is damaged: the unit runs again" in caplog.text


def test_a_damaged_plan_is_told(tmp_path: Path) -> None:
    (tmp_path / "sweep.json").write_text("{")
    with pytest.raises(ValueError, match=r"sweep\.json is damaged; delete it"):
        run(units_of(), tmp_path)


def test_data_that_changed_are_refused(tmp_path: Path) -> None:
    paths = [tmp_path / "mine" / name / "0.png" for name in ("cat", "dog")]
    for level, path in enumerate(paths):
        path.parent.mkdir(parents=True)
        Image.new("RGB", (8, 8), (level, 0, 0)).save(path)
    used = {"dataset": f"folder:{tmp_path / 'mine'}", "split": "test"}
    units, out = units_of(used, seed=[0, 1]), tmp_path / "out"
    run(units[:1], out)
    kept = paths[1].read_bytes()
    Image.new("RGB", (8, 8), (9, 0, 0)).save(paths[1])
    words = r"begun with other files: data folder:.*\(fingerprint .*now\)\. Put the old ones"
    with pytest.raises(ValueError, match=words):
        run(units, out)
    assert len(list((out / "units").iterdir())) == 1
    paths[1].write_bytes(kept)
    summary = run(units, out)
    assert (summary.earlier, summary.done) == (1, 1)


def test_another_machine_with_other_files_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unit = units_of()[0].using({"weights net": "1"})
    monkeypatch.setattr(sweeps, "identified", lambda units: list(units))
    monkeypatch.setattr(fingerprints, "uses", lambda parameters: {"weights net": "2"})
    assert run([unit], tmp_path / "same").done == 1
    monkeypatch.setattr(task.platform, "node", lambda: "elsewhere")
    monkeypatch.setattr(worker, "platform", type("P", (), {"node": staticmethod(lambda: "here")}))
    (record,) = run([unit], tmp_path / "other").failed
    assert "here has other files than elsewhere: weights net" in record["error"]


def test_versions_of_the_code_are_not_mixed_in_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    units = units_of(seed=[0, 1])
    run(units[:1], tmp_path)
    for module in (worker, sweeps):
        monkeypatch.setattr(module, "code_version", lambda: "0.2.0 abc")
    run(units, tmp_path)
    assert "1 units were computed by code 0.1.0" in caplog.text
    caplog.clear()
    assert len(sweep.load(tmp_path)) == 6
    assert "mix versions of the code: 0.1.0" in caplog.text
    assert "0.2.0 abc (1 units)" in caplog.text


def test_one_result_of_two_units_counts_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    units = units_of(seconds=[0.0, 0.01])  # the same rows
    run(units, tmp_path)
    assert len(sweep.load(tmp_path)) == 3 and not caplog.text
    folder = sweep.unit_folder(tmp_path, units[1].key)
    (path,) = folder.glob("results/*")
    pq.write_table(pq.read_table(path).set_column(1, "value", [[0.5] * 3]), path)
    records.write(folder, {**(records.read(folder) or {}), "files": records.hashes(folder)})
    assert len(sweep.load(tmp_path)) == 3
    assert "differs between units" in caplog.text


def test_open_units_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run(units_of(fault=["", "raise"]), tmp_path)
    sweep.load(tmp_path)
    assert "1 of 2 units are not done" in caplog.text
    with pytest.raises(FileNotFoundError, match="no sweep in"):
        sweep.load(tmp_path / "nowhere")
    run(units_of(fault=["raise"]), tmp_path / "b")
    with pytest.raises(FileNotFoundError, match="no done unit"):
        sweep.load(tmp_path / "b")


def test_units_that_vanish_are_told(tmp_path: Path) -> None:
    """The last unit deletes the folders of the first two; nobody says that three are done."""
    units = units_of(fault=["", "warn", "vanish"])
    with pytest.raises(sweep.SweepError, match="2 of 3 units are no longer whole"):
        run(units, tmp_path)
    assert states(tmp_path) == ["open", "open", "done"]
    (folder,) = (tmp_path / "units").iterdir()
    assert run(units, tmp_path).done == 2 and folder.exists()


def test_a_second_sweep_in_one_folder_is_refused(tmp_path: Path) -> None:
    lock = folder_lock.held(tmp_path)
    assert lock is not None
    with lock, pytest.raises(ValueError, match=r"another sweep is at work in .*\(process \d+ on"):
        run(units_of(), tmp_path)
    assert run(units_of(), tmp_path).done == 1  # what a dead process left is no lock


def test_ctrl_c_keeps_what_is_done_but_a_unit_cannot_pretend_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(run_dir: Path, unit: dict) -> None:
        if unit["seed"] == 1:
            raise KeyboardInterrupt("pretended")
        if unit["seed"] == 2:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)
        real(run_dir, unit)

    real = trivial_experiment.write_rows
    monkeypatch.setattr(trivial_experiment, "write_rows", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    units = units_of(seed=[0, 1, 2, 3])
    with pytest.raises(KeyboardInterrupt):
        run(units, tmp_path)
    signal.signal(signal.SIGINT, before)
    assert states(tmp_path) == ["done", "failed", "running", "open"]
    monkeypatch.undo()
    summary = run(units, tmp_path, retry_failed=True)
    assert (summary.earlier, states(tmp_path)) == (1, ["done"] * 4)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"timeout": 0}, "timeout must be more than 0"),
        ({"engine": "cloud"}, "unknown engine 'cloud'; known are local, dask, slurm, serial"),
        ({"workers": 0}, "workers must be 1 or more"),
        ({"address": "tcp://x:1"}, "an address is for engine 'dask'"),
        ({"options": {"partition": "x"}}, "options of jobs are for engine 'slurm'"),
    ],
)
def test_wrong_settings_are_told(tmp_path: Path, how: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        sweep.run_sweep(units_of(), tmp_path, **{"engine": "serial", "progress": False, **how})


def test_code_version_names_commit_and_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "git_state", lambda: ("a" * 40, True))
    worker.code_version.cache_clear()
    assert worker.code_version() == "0.1.0 aaaaaaaaaaaa +changes"
    worker.code_version.cache_clear()
