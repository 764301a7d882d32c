"""`tttlib sweep`: what it prints, its exit codes, and that killing it at any time loses nothing."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
import yaml
from command_line import call
from small_notebook import write_notebook
from sweeping import TRIVIAL, lines, run, states

from tttlib import sweep

QUIET: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def _command(grid: Path, out: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "tttlib", "sweep", str(grid), "--out", str(out), *words]


def _write(path: Path, grid: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(grid))
    return path


def test_failed_units_are_listed_and_the_exit_code_is_one(tmp_path: Path) -> None:
    grid, out = tmp_path / "g.yaml", tmp_path / "out"
    _write(grid, {"experiment": TRIVIAL, "grid": {"fault": ["", "raise"]}})
    code, said, progress = call("sweep", grid, "--out", out, "--engine", "serial")
    failed, hint, last = said.splitlines()
    words = f"failed: {TRIVIAL} fault=raise: ArithmeticError: two and two; see {out}"
    assert code == 1 and failed.startswith(words)
    assert Path(failed.split("see ")[1]).read_text().startswith("Traceback")
    assert hint == "failed units run again with --retry-failed"
    assert last == f"1 of 2 units done (0 of them earlier), 1 failed: {out}"
    assert "2/2" in progress and "failed=1, running=0" in progress


def test_what_the_user_can_put_right_is_one_line(tmp_path: Path) -> None:
    grid = _write(tmp_path / "g.yaml", {"experiment": "standrad"})
    code, _, said = call("sweep", grid, "--out", tmp_path / "out")
    assert code == 2 and said.startswith("error: unknown experiment 'standrad'; known are standard")
    assert not (tmp_path / "out").exists()


def _kill_until_done(grid: Path, out: Path, kills: int, seed: int) -> int:
    """Run the sweep, kill -9 processes of it at random times, run it again until it is done."""
    random_, killed = random.Random(seed), 0
    while True:
        command = _command(grid, out, "--workers", "2", "--retry-failed")
        with subprocess.Popen(command, **QUIET) as process:
            while killed < kills and process.poll() is None:
                time.sleep(random_.uniform(0.5, 3))
                with contextlib.suppress(psutil.NoSuchProcess):
                    driver = psutil.Process(process.pid)
                    victim = random_.choice([driver, *driver.children(recursive=True)])
                    victim.kill()
                    killed += 1
                    if victim == driver:
                        break
            code = process.wait(180)
        if code == 0 and set(states(out)) == {"done"}:
            return killed


def _check_complete(grid: Path, out: Path, plain: Path) -> None:
    """Every unit once, its rows those of a run that nobody disturbed."""
    run(sweep.read_grid(grid), plain)
    rows = [sweep.load(o).drop(columns=["git_sha", "code"]) for o in (out, plain)]
    pd.testing.assert_frame_equal(*rows, check_exact=True)  # whatever the tree became meanwhile
    assert len(list(out.glob("units/*/results/*.parquet"))) == len(states(out))


def test_sweeps_survive_three_kills(tmp_path: Path) -> None:
    lists = {"number": [0, 1, 2], "seed": [0, 1, 2, 3]}
    grid = {"experiment": TRIVIAL, "parameters": {"seconds": 0.6}, "grid": lists}
    path = _write(tmp_path / "g.yaml", grid)
    assert _kill_until_done(path, tmp_path / "out", 3, 7) >= 1
    _check_complete(path, tmp_path / "out", tmp_path / "plain")


@pytest.mark.slow
def test_sweeps_and_notebooks_survive_fifty_kills(tmp_path: Path) -> None:
    body = (
        "import time\nfrom pathlib import Path\nfrom trivial_experiment import write_rows\n"
        "time.sleep(0.5)\n"
        "write_rows(Path(run_dir), {'experiment': 'nb', 'number': number, 'seed': 0})"
    )
    notebook = write_notebook(tmp_path / "t.ipynb", body, parameters="number = 1\nrun_dir = '.'")
    lists = {"number": list(range(5)), "seed": [0, 1, 2, 3]}
    entries = [
        {"experiment": TRIVIAL, "parameters": {"seconds": 0.5}, "grid": lists},
        {"notebook": str(notebook), "grid": {"number": list(range(4))}},
    ]
    path, killed = _write(tmp_path / "g.yaml", {"sweeps": entries}), 0
    for attempt in range(20):
        out = tmp_path / f"out{attempt}"
        killed += _kill_until_done(path, out, 10, attempt)
        _check_complete(path, out, tmp_path / "plain")
        if killed >= 50:
            return
    pytest.fail(f"only {killed} kills")


@pytest.fixture
def cluster() -> Iterator[Callable[[int], tuple[str, subprocess.Popen[Any]]]]:
    """Starts a dask scheduler with three workers, and ends them; returns address and scheduler."""
    started: list[subprocess.Popen[Any]] = []

    def start(port: int) -> tuple[str, subprocess.Popen[Any]]:
        address = f"tcp://127.0.0.1:{port}"
        scheduler = ["scheduler", "--port", str(port), "--no-dashboard", "--host", "127.0.0.1"]
        worker = ["worker", address, "--nthreads", "1", "--no-dashboard"]
        for words in (scheduler, worker, worker, worker):
            command = [sys.executable, "-m", "dask", *words]
            started.append(subprocess.Popen(command, start_new_session=True, **QUIET))
        return address, started[-4]

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["worker", "scheduler"])
def test_sixty_units_survive_a_kill_on_dask(
    victim: str, cluster: Callable[..., Any], tmp_path: Path
) -> None:
    log, out = tmp_path / "log", tmp_path / "out"
    lists = {"number": list(range(10)), "seed": list(range(6))}
    given = {"seconds": 0.4, "log": str(log)}
    entry = {"experiment": TRIVIAL, "parameters": given, "grid": lists}
    grid, first = _write(tmp_path / "sixty.yaml", entry), 18787 if victim == "worker" else 18788
    address, scheduler = cluster(first)
    words = _command(grid, out, "--engine", "dask", "--address", address)
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        end = time.monotonic() + 60
        while len(lines(log, "end")) <= 5:
            assert time.monotonic() < end, "nothing ends"
            time.sleep(0.1)
        if victim == "worker":
            os.kill(int(log.read_text().splitlines()[-1].split()[-1]), signal.SIGKILL)
        else:
            os.killpg(scheduler.pid, signal.SIGKILL)
        _, told = process.communicate(timeout=120)
    assert process.returncode == (0 if victim == "worker" else 2)
    if victim == "scheduler":
        assert "error: the dask scheduler is gone; what is done is kept" in told
        assert 5 < states(out).count("done") < 60
        words[-1], _ = cluster(18789)
        assert subprocess.run(words, timeout=120).returncode == 0
    assert states(out) == ["done"] * 60
    ends = lines(log, "end")
    assert len(ends) == len(set(ends)) == 60  # one each, though some units were begun twice
    _check_complete(grid, out, tmp_path / "plain")
