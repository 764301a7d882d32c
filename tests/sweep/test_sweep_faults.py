"""What the user sees when something goes wrong, and the state afterwards (tttlib/sweep/README.md).

Units that raise, hang, or eat memory are in test_engines.py, damaged files, and data that change in
test_running.py, kills in test_sweep_commands.py.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from sweeping import run, states, units_of

from tttlib import sweep
from tttlib.sweep import records, worker

SMALL_DISK = """
mount -t tmpfs -o size={size}k{options} none "$1" || exit 77
cd "$1" && shift && exec "$@"
"""


def _on_small_disk(folder: Path, script: str, size: int = 200, options: str = "") -> str:
    """Standard output of Python code whose current folder is a file system of `size` KiB."""
    folder.mkdir(exist_ok=True)
    mount = SMALL_DISK.format(size=size, options=options)
    command = ["unshare", "-rm", "sh", "-c", mount, "sh", str(folder), sys.executable, "-c", script]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=120)
    except FileNotFoundError:
        pytest.skip("no unshare: a small file system cannot be mounted")
    if told.returncode == 77 or "unshare" in told.stderr:
        pytest.skip("mounting is not allowed here")
    assert told.returncode == 0, told.stderr
    return told.stdout


FULL = """
from pathlib import Path
from sweeping import run, units_of, states
from tttlib import sweep
out, filler = Path("out"), Path("filler")
units = units_of(seed=list(range(6)))
run(units[:2], out, "serial")
with filler.open("wb", buffering=0) as file:
    try:
        while True:
            file.write(bytes(4096))
    except OSError:
        file.truncate(file.tell() - {room})
try:
    run(units, out, "{engine}")
except (sweep.SweepError, ValueError) as error:
    print(type(error).__name__, error)
print(len(sweep.load(out)), "rows")
filler.unlink()
summary = run(units, out, "{engine}")
print(summary.earlier + summary.done, len(summary.failed), len(sweep.load(out)))
"""


@pytest.mark.parametrize(
    ("engine", "room", "kind"),
    [("serial", 0, "ValueError"), ("serial", 20480, "SweepError"), ("local", 20480, "SweepError")],
)
def test_a_full_disk_stops_the_sweep_and_the_same_command_resumes(
    engine: str, room: int, kind: str, tmp_path: Path
) -> None:
    script = FULL.replace("{engine}", engine).replace("{room}", str(room))
    told = _on_small_disk(tmp_path / "disk", script).splitlines()
    assert told[0].startswith(f"{kind} cannot write ")
    assert "No space left on device" in told[0]
    assert told[1] in ["6 rows", "9 rows", "12 rows", "15 rows"]
    assert told[2] == "6 0 18"


READ_ONLY = """
from pathlib import Path
import subprocess
from sweeping import run, units_of
from tttlib import sweep
units = units_of(seed=[0, 1])
run(units[:1], Path("out"), "serial")
subprocess.run(["mount", "-o", "remount,ro", str(Path.cwd())], check=True)
for out in ("out", "new"):
    try:
        run(units, Path(out), "serial")
    except ValueError as error:
        print(error)
print(len(sweep.load("out")), "rows")
"""


def test_a_read_only_folder_is_refused_before_anything_runs(tmp_path: Path) -> None:
    told = _on_small_disk(tmp_path / "disk", READ_ONLY).splitlines()
    for line, name in zip(told, ("out", "new"), strict=False):
        assert line.startswith("cannot write ") and f"/{name}: Read-only file system" in line
    assert told[2] == "3 rows"


def test_no_space_inside_a_unit_is_no_failure_of_the_unit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import trivial_experiment

    def full(*_: object) -> None:
        try:
            raise OSError(28, "No space left on device")
        except OSError as error:
            raise RuntimeError("could not write the table") from error

    monkeypatch.setattr(trivial_experiment, "write_rows", full)
    units = units_of(seed=[0, 1])
    with pytest.raises(sweep.SweepError, match=r"cannot write .*; what is done is kept"):
        run(units, tmp_path, "serial")
    assert states(tmp_path) == ["running", "open"]
    monkeypatch.undo()
    assert run(units, tmp_path, "serial").done == 2


def test_a_record_that_cannot_be_written_stops_the_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = records.write

    def full(folder: Path, record: dict) -> None:
        if record["state"] == "done":
            raise OSError(28, "No space left on device")
        real(folder, record)

    monkeypatch.setattr(records, "write", full)
    with pytest.raises(sweep.SweepError, match="No space left on device"):
        run(units_of(), tmp_path, "serial")
    assert states(tmp_path) == ["running"]


def test_a_notebook_that_finds_no_space_says_so_in_words() -> None:
    assert worker._unwritable(sweep.NotebookError("OSError: [Errno 28] No space left on device"))
    assert not worker._unwritable(sweep.NotebookError("OSError: [Errno 2] No such file"))


def test_a_unit_another_sweep_still_works_on_is_waited_for(tmp_path: Path) -> None:
    """A job outlives the sweep that started it; the next sweep takes its rows."""
    (unit,) = units_of({"log": str(tmp_path / "log")})
    folder = sweep.unit_folder(tmp_path / "out", unit.key)
    folder.mkdir(parents=True)
    script = """
import sys, time, json, os
from pathlib import Path
from tttlib.sweep import folder_lock, records
import trivial_experiment
folder = Path(sys.argv[1])
with folder_lock.held(folder):
    print("held", flush=True)
    time.sleep(1)
    trivial_experiment.write_rows(folder, {"experiment": "trivial", "number": 0, "seed": 0})
    record = {"key": folder.name, "state": "done", "session": "an earlier one", "code": "c"}
    record["label"] = "trivial"
    records.write(folder, record | {"files": records.hashes(folder), "seconds": 1})
"""
    command = [sys.executable, "-c", script, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        assert run([unit], tmp_path / "out", "serial").done == 1
    assert not (tmp_path / "log").exists()
    record = records.read(folder)
    assert record is not None and record["session"] == "an earlier one"
