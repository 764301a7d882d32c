"""`tttlib sweep`: what it prints, its exit codes, and that killing it at any time loses nothing."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import psutil
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_notebook
from sweeping import TRIVIAL, lines, rows, run, states

from tttlib import sweep


def _command(grid: Path, out: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "tttlib", "sweep", str(grid), "--out", str(out), *words]


def _call(grid: Path, out: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(_command(grid, out, *words), capture_output=True, text=True, timeout=120)


def _write(path: Path, grid: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(grid))
    return path


def test_failed_units_are_listed_and_the_exit_code_is_one(tmp_path: Path) -> None:
    lists = {"fault": ["", "raise"]}
    grid = _write(tmp_path / "g.yaml", {"experiment": TRIVIAL, "grid": lists})
    told = _call(grid, tmp_path / "out", "--engine", "serial")
    assert told.returncode == 1
    failed, hint, last = told.stdout.splitlines()
    assert failed.startswith(
        f"failed: {TRIVIAL} fault=raise: ArithmeticError: two and two; see {tmp_path / 'out'}"
    )
    assert Path(failed.split("see ")[1]).read_text().startswith("Traceback")
    assert hint == "failed units run again with --retry-failed"
    assert last == f"1 of 2 units done (0 of them earlier), 1 failed: {tmp_path / 'out'}"
    assert "2/2" in told.stderr and "failed=1, running=0" in told.stderr


def test_what_the_user_can_put_right_is_one_line(tmp_path: Path) -> None:
    grid = _write(tmp_path / "g.yaml", {"experiment": "standrad"})
    told = _call(grid, tmp_path / "out")
    assert told.returncode == 2
    assert told.stderr.startswith("error: unknown experiment 'standrad'; known are standard")
    assert not (tmp_path / "out").exists()


def _tree(process: subprocess.Popen[Any]) -> list[psutil.Process]:
    try:
        driver = psutil.Process(process.pid)
        return [driver, *driver.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _kill_until_done(
    grid: Path, out: Path, kills: int, seed: int, whom: Callable[[list], list]
) -> int:
    """Run the sweep, kill -9 processes of it at random times, run it again until it is done."""
    random_, killed = random.Random(seed), 0
    while True:
        command = _command(grid, out, "--workers", "2", "--retry-failed")
        with subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            while killed < kills and process.poll() is None:
                time.sleep(random_.uniform(0.5, 3))
                if victims := whom(_tree(process)):
                    victim = random_.choice(victims)
                    try:
                        victim.kill()
                    except psutil.NoSuchProcess:
                        continue
                    killed += 1
                    if victim.pid == process.pid:
                        break
            code = process.wait(180)
        if code == 0 and set(states(out)) == {"done"}:
            return killed


def _check_complete(grid: Path, out: Path, plain: Path) -> None:
    """Every unit once, its rows those of a run that nobody disturbed."""
    run(sweep.read_grid(grid), plain, "serial")
    pd.testing.assert_frame_equal(rows(out), rows(plain), check_exact=True)
    files = [p for p in (out / "units").glob("*/results/*.parquet")]
    assert len(files) == len(states(out))


def test_sweeps_survive_three_kills(tmp_path: Path) -> None:
    lists = {"number": [0, 1, 2], "seed": [0, 1, 2, 3]}
    grid = {"experiment": TRIVIAL, "parameters": {"seconds": 0.6}, "grid": lists}
    path = _write(tmp_path / "g.yaml", grid)
    assert _kill_until_done(path, tmp_path / "out", 3, 7, lambda tree: tree) >= 1
    _check_complete(path, tmp_path / "out", tmp_path / "plain")


@pytest.mark.slow
def test_sweeps_and_notebooks_survive_fifty_kills(tmp_path: Path) -> None:
    parameters = new_code_cell("number = 1\nrun_dir = '.'", metadata={"tags": ["parameters"]})
    body = new_code_cell(
        "import time\nfrom pathlib import Path\nfrom trivial_experiment import write_rows\n"
        "time.sleep(0.5)\n"
        "write_rows(Path(run_dir), {'experiment': 'nb', 'number': number, 'seed': 0})"
    )
    notebook = tmp_path / "tiny.ipynb"
    nbformat.write(new_notebook(cells=[parameters, body]), notebook)
    killed = 0
    for attempt in range(20):
        lists = {"number": list(range(5)), "seed": [0, 1, 2, 3]}
        entries = [
            {"experiment": TRIVIAL, "parameters": {"seconds": 0.5}, "grid": lists},
            {"notebook": str(notebook), "grid": {"number": list(range(4))}},
        ]
        path, out = _write(tmp_path / "g.yaml", {"sweeps": entries}), tmp_path / f"out{attempt}"
        killed += _kill_until_done(path, out, 10, attempt, lambda tree: tree)
        if attempt == 0:
            run(sweep.read_grid(path), tmp_path / "plain", "serial")
        pd.testing.assert_frame_equal(rows(out), rows(tmp_path / "plain"), check_exact=True)
        if killed >= 50:
            return
    pytest.fail(f"only {killed} kills")


@pytest.fixture
def cluster() -> Iterator[Callable[..., subprocess.Popen[Any]]]:
    """Starts `dask` commands, and ends them."""
    started: list[subprocess.Popen[Any]] = []

    def start(*words: str) -> subprocess.Popen[Any]:
        command = [sys.executable, "-m", "dask", *words]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        started.append(subprocess.Popen(command, start_new_session=True, **quiet))  # type: ignore
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _start(cluster: Callable[..., Any], port: int, workers: int) -> list[Any]:
    scheduler = cluster("scheduler", "--port", str(port), "--no-dashboard", "--host", "127.0.0.1")
    one = ["worker", f"tcp://127.0.0.1:{port}", "--nthreads", "1", "--no-dashboard"]
    return [scheduler, *(cluster(*one) for _ in range(workers))]


@pytest.fixture
def sixty(tmp_path: Path) -> Path:
    lists = {"number": list(range(10)), "seed": list(range(6))}
    given = {"seconds": 0.4, "log": str(tmp_path / "log")}
    grid = {"experiment": TRIVIAL, "parameters": given, "grid": lists}
    return _write(tmp_path / "sixty.yaml", grid)


def _wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.1)


def _check_sixty(grid: Path, out: Path, tmp_path: Path) -> None:
    assert states(out) == ["done"] * 60
    # one end each: no unit ran to its end twice, though some were begun twice
    assert len(lines(tmp_path / "log", "end")) == 60
    assert len(set(lines(tmp_path / "log", "end"))) == 60
    _check_complete(grid, out, tmp_path / "plain")


@pytest.mark.slow
def test_sixty_units_survive_a_killed_dask_worker(
    cluster: Callable[..., Any], sixty: Path, tmp_path: Path
) -> None:
    _start(cluster, 18787, 3)
    words = _command(
        sixty, tmp_path / "out", "--engine", "dask", "--address", "tcp://127.0.0.1:18787"
    )
    with subprocess.Popen(words) as process:
        _wait_for(lambda: len(lines(tmp_path / "log", "end")) > 5)
        pid = int((tmp_path / "log").read_text().splitlines()[-1].split()[-1])
        os.kill(pid, signal.SIGKILL)
        assert process.wait(120) == 0
    _check_sixty(sixty, tmp_path / "out", tmp_path)


@pytest.mark.slow
def test_sixty_units_survive_a_killed_dask_scheduler(
    cluster: Callable[..., Any], sixty: Path, tmp_path: Path
) -> None:
    scheduler = _start(cluster, 18788, 3)[0]
    words = _command(
        sixty, tmp_path / "out", "--engine", "dask", "--address", "tcp://127.0.0.1:18788"
    )
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        _wait_for(lambda: len(lines(tmp_path / "log", "end")) > 5)
        os.killpg(scheduler.pid, signal.SIGKILL)
        _, told = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "error: the dask scheduler is gone; what is done is kept" in told
    assert 5 < states(tmp_path / "out").count("done") < 60
    _start(cluster, 18789, 3)
    words[-1] = "tcp://127.0.0.1:18789"
    assert subprocess.run(words, timeout=120).returncode == 0
    _check_sixty(sixty, tmp_path / "out", tmp_path)
