"""What the user sees when the disk gives way, and the state afterwards (tttlib/sweep/README.md)."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from threading import Event, Thread

import pytest
import trivial_experiment
from sweeping import run, states, units_of

from tttlib import sweep
from tttlib.sweep import folder_lock, records

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
    error, found, after = _on_small_disk(tmp_path / "disk", script).splitlines()
    assert error.startswith(f"{kind} cannot write ") and "No space left on device" in error
    assert found in ["6 rows", "9 rows", "12 rows", "15 rows"] and after == "6 0 18"


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


@pytest.mark.parametrize(
    "error", [None, sweep.NotebookError("OSError: [Errno 28] No space left on device")]
)
def test_no_space_inside_a_unit_is_no_failure_of_the_unit(
    error: Exception | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A notebook says it in words; another unit's error may have it as its cause."""

    def full(*_: object) -> None:
        raise error or RuntimeError("no table") from OSError(28, "No space left on device")

    monkeypatch.setattr(trivial_experiment, "write_rows", full)
    units = units_of(seed=[0, 1])
    with pytest.raises(sweep.SweepError, match=r"cannot write .*; what is done is kept"):
        run(units, tmp_path)
    assert states(tmp_path) == ["running", "open"]
    monkeypatch.undo()
    assert run(units, tmp_path).done == 2


def test_a_unit_another_sweep_still_works_on_is_waited_for(tmp_path: Path) -> None:
    """A job outlives the sweep that started it; the next sweep takes its rows."""
    (unit,) = units_of({"log": str(tmp_path / "log")})
    folder = sweep.unit_folder(tmp_path / "out", unit.key)
    folder.mkdir(parents=True)
    begun = Event()

    def job() -> None:
        with folder_lock.waited_for(folder):
            begun.set()
            time.sleep(1)
            trivial_experiment.write_rows(folder, {"experiment": "trivial", "number": 0, "seed": 0})
            record = {"key": unit.key, "label": "l", "session": "an earlier one", "code": "c"}
            files = records.hashes(folder)
            records.write(folder, {**record, "state": "done", "files": files, "seconds": 1})

    Thread(target=job).start()
    assert begun.wait(10) and run([unit], tmp_path / "out").done == 1
    assert not (tmp_path / "log").exists()
    record = records.read(folder)
    assert record is not None and record["session"] == "an earlier one"
