"""Every engine gives the rows of a serial run, outlives its workers, and stops what hangs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from sweeping import lines, run, states, units_of

from tttlib import sweep
from tttlib.sweep import engines, task
from tttlib.sweep.engines import machine, serial, slurm


@pytest.fixture(autouse=True)
def _short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task, "GRACE", 0.3)


def test_local_workers_that_die_or_hang_take_nobody_with_them(tmp_path: Path) -> None:
    log = tmp_path / "log"
    faults = ["", "die", "die once", "hang", "busy", "deaf", "raise", "memory"]
    units = units_of({"log": str(log), "seconds": 0.1}, fault=faults)
    summary = run(units, tmp_path / "out", "local", timeout=10)
    errors = {r["parameters"]["fault"]: r["error"] for r in summary.failed}
    assert errors == {
        "die": "its worker died (SIGKILL(-9)) 3 times: killed from outside, or out of memory; "
        "fewer at once (--workers 1) need less",
        "hang": "took longer than 10 s",
        "busy": "took longer than 10 s and had to be killed",
        "deaf": "took longer than 10 s and had to be killed",
        "raise": "ArithmeticError: two and two",
        "memory": errors["memory"],
    }
    assert "MemoryError" in errors["memory"]
    assert states(tmp_path / "out") == ["done", "failed", "done", *["failed"] * 5]
    for record in summary.failed:
        assert summary.where(record).read_text()
    assert not _children()


@pytest.mark.parametrize("engine", ["serial", "local"])
def test_what_a_unit_raises_is_its_own_failure(engine: str, tmp_path: Path) -> None:
    """Neither a pretended Ctrl-C nor a text of any kind ends the sweep, now or when resumed."""
    faults = ["interrupt", "exit", "text", "unprintable", ""]
    for _ in range(2):
        summary = run(units_of(fault=faults), tmp_path, engine, retry_failed=True)
        errors = {r["parameters"]["fault"]: r for r in summary.failed}
        assert errors.keys() == set(faults) - {""}
        assert errors["interrupt"]["error"] == "KeyboardInterrupt: pretended"
        assert errors["exit"]["error"] == "SystemExit: 3"
        assert errors["text"]["error"].startswith(r"ValueError: \udcff\udcfexxx")
        assert len(errors["text"]["error"]) < 1100 and len(errors["text"]["traceback"]) < 30_000
        assert "Unprintable" in errors["unprintable"]["error"]
    sizes = [path.stat().st_size for path in tmp_path.glob("units/*/*.*")]
    assert max(sizes) < 100_000


def test_a_child_of_a_killed_unit_holds_no_lock(tmp_path: Path) -> None:
    """The child outlives the sweep by minutes; the next sweep does not wait for it."""
    script = (
        "from pathlib import Path\nfrom sweeping import run, units_of\n"
        "run(units_of(fault=['orphan once']), Path('out'), 'serial')"
    )
    quiet = subprocess.DEVNULL
    died = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, stderr=quiet, timeout=100)
    assert died.returncode == -signal.SIGKILL
    assert run(units_of(fault=["orphan once"]), tmp_path / "out", "serial").done == 1
    orphan = psutil.Process(int((tmp_path / "out" / "orphan").read_text()))
    assert orphan.is_running()
    orphan.kill()


def test_two_dask_clusters_on_one_machine(tmp_path: Path) -> None:
    """Neither takes a port that the other one needs; warnings are errors here."""
    with (
        engines.using("dask", folder=tmp_path, workers=1) as first,
        engines.using("dask", folder=tmp_path, workers=1) as second,
    ):
        assert first.slots == second.slots == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("engine", "died"), [("dask", "its worker died (killed) 3 times"), ("slurm", "its worker died")]
)
def test_workers_elsewhere_that_die_or_hang_take_nobody_with_them(
    engine: str, died: str, tmp_path: Path
) -> None:
    units = units_of({"seconds": 0.1}, fault=["", "die", "die once", "hang", "raise"])
    summary = run(units, tmp_path, engine, timeout=10)
    failed = {r["parameters"]["fault"]: r for r in summary.failed}
    assert failed.keys() == {"die", "hang", "raise"} and died in failed["die"]["error"]
    assert failed["hang"]["error"].startswith("took longer than 10 s")
    assert "trivial_experiment.py" in failed["hang"]["traceback"]  # where it hung
    assert failed["raise"]["error"] == "ArithmeticError: two and two"
    assert states(tmp_path) == ["done", "failed", "done", "failed", "failed"]


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C raises, also where tests run in a shell's background, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_ends_the_workers_and_keeps_what_is_done(tmp_path: Path) -> None:
    log = tmp_path / "log"
    units = units_of({"log": str(log), "seconds": 0.3}, seed=list(range(12)))

    def press() -> None:
        while len(lines(log, "end")) < 3:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=press)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        run(units, tmp_path / "out", "local")
    thread.join()
    assert not _children()
    done = states(tmp_path / "out").count("done")
    assert 1 <= done < 12
    time.sleep(0.5)
    assert states(tmp_path / "out").count("done") == done
    assert run(units, tmp_path / "out", "local").earlier == done
    assert states(tmp_path / "out") == ["done"] * 12


def test_threads_and_gpus_are_divided(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "cores", lambda: 8)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, 5")
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):  # dask sets them for its workers
        monkeypatch.delenv(name, raising=False)
    assert machine.environment_of(2, 3) == {
        "OMP_NUM_THREADS": "2",
        "MKL_NUM_THREADS": "2",
        "CUDA_VISIBLE_DEVICES": "3",
    }
    assert machine.default_workers() == 2
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert machine.environment_of(1, 2) == {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "4"}
    assert machine.default_workers() == 4


def test_gpus_are_counted_without_torch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    told = tmp_path / "nvidia-smi"
    told.write_text("#!/bin/sh\nprintf '0\\n1\\n2\\n'\n")
    told.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert machine.gpus() == ["0", "1", "2"]
    told.write_text("#!/bin/sh\nexit 9\n")
    assert machine.gpus() == []


@pytest.mark.parametrize(
    ("engine", "options", "words"),
    [
        ("slurm", {}, "needs sbatch"),
        ("slurm", {"cluster": "local", "colour": "red"}, r"submitit refuses .*colour"),
        ("dask", {}, r"needs the package distributed; .*'tttlib\[cluster\]'"),
    ],
)
def test_what_an_engine_lacks_is_told(
    engine: str, options: dict, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "distributed", None)
    with (
        pytest.raises(ValueError, match=words),
        engines.using(engine, folder=tmp_path, options=options),
    ):
        pass


def test_a_scheduler_that_does_not_answer_is_told(tmp_path: Path) -> None:
    import distributed
    from dask import config

    assert distributed
    with (
        config.set({"distributed.comm.timeouts.connect": "0.5s"}),
        pytest.raises(ValueError, match=r"no dask scheduler answers at tcp://127\.0\.0\.1:9"),
    ):
        run(units_of(), tmp_path, "dask", address="tcp://127.0.0.1:9")


def _children() -> list[str]:
    """Python processes that this one has started, less helpers of multiprocessing."""
    command = ["ps", "-ww", "-o", "args=", "--ppid", str(os.getpid())]
    told = subprocess.run(command, capture_output=True, text=True).stdout.splitlines()
    return [line for line in told if "python" in line and "resource_tracker" not in line]


def test_jobs_of_slurm_are_submitted_as_arrays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More units than an array takes, on an executor that only remembers."""
    import submitit

    arrays: list[int] = []
    told: dict[str, Any] = {}

    class Executor:
        def __init__(self, folder: Path, cluster: str) -> None:
            assert cluster == "slurm"

        def update_parameters(self, **parameters: Any) -> None:
            told.update(parameters)

        def map_array(self, function: Any, tasks: list) -> list[Any]:
            arrays.append(len(tasks))
            return serial.Serial().submit(tasks)

    monkeypatch.setattr(submitit, "AutoExecutor", Executor)
    monkeypatch.setattr(slurm.shutil, "which", lambda name: name)
    monkeypatch.setattr(slurm, "_ARRAY", 4)
    units = units_of(seed=list(range(10)))
    options = {"partition": "gpu", "gpus_per_node": 1}
    how: dict[str, Any] = {"workers": 3, "timeout": 90, "options": options, "progress": False}
    summary = sweep.run_sweep(units, tmp_path, engine="slurm", **how)
    assert summary.done == 10 and arrays == [4, 4, 2]
    assert told == {
        "name": "tttlib",
        "slurm_partition": "gpu",
        "gpus_per_node": 1,
        "slurm_array_parallelism": 3,
        "timeout_min": 3,
    }
