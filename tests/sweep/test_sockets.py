"""Everything that a command starts listens on this machine alone, unless an address is given."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import psutil
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from sweeping import TRIVIAL

ROOT = Path(__file__).resolve().parents[2]


def _listening(process: psutil.Process) -> set[tuple[str, int]]:
    """Addresses on which a process and those it has started listen."""
    found: set[tuple[str, int]] = set()
    with contextlib.suppress(psutil.Error):
        for one in [process, *process.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):
                found |= {
                    (socket.laddr.ip, socket.laddr.port)
                    for socket in one.net_connections("inet")
                    if socket.status == psutil.CONN_LISTEN
                }
    return found


def _watch(command: list[str], folder: Path, seconds: float | None = None) -> set[tuple[str, int]]:
    """Run a command to its end (or for so long) and note where its tree listens."""
    seen: set[tuple[str, int]] = set()
    environment = {**os.environ, "PYTHONPATH": f"{Path(__file__).parent}{os.pathsep}{ROOT}"}
    log = folder / "said.txt"
    with (
        log.open("w") as said,
        subprocess.Popen(command, cwd=folder, stdout=said, stderr=said, env=environment) as process,
    ):
        tree, end = psutil.Process(process.pid), time.monotonic() + (seconds or 180)
        while process.poll() is None and time.monotonic() < end:
            seen |= _listening(tree)
            time.sleep(0.05)
        if process.poll() is None:
            children = tree.children(recursive=True)
            process.terminate()
            psutil.wait_procs([tree], 20)
            for child in children:
                with contextlib.suppress(psutil.Error):
                    child.kill()
        assert seconds or process.returncode == 0, log.read_text()
    return seen


def _check_loopback(seen: set[tuple[str, int]]) -> None:
    open_to_others = {a for a in seen if not ipaddress.ip_address(a[0]).is_loopback}
    assert not open_to_others


@pytest.mark.parametrize("engine", ["serial", "local", "dask"])
def test_sweeps(engine: str, tmp_path: Path) -> None:
    grid = {"experiment": TRIVIAL, "parameters": {"seconds": 1}, "grid": {"seed": [0, 1]}}
    (tmp_path / "grid.yaml").write_text(json.dumps(grid))
    command = [sys.executable, "-m", "tttlib", "sweep", "grid.yaml", "--engine", engine]
    seen = _watch([*command, "--workers", "2", "--out", "out"], tmp_path)
    _check_loopback(seen)
    assert bool(seen) == (engine == "dask")  # a scheduler, two nannies, two workers


def test_jobs_on_this_machine(tmp_path: Path) -> None:
    """The jobs of submitit, as the engine slurm starts them."""
    script = (
        "from pathlib import Path\nfrom sweeping import run, units_of\n"
        "run(units_of({'seconds': 1.0}, seed=[0]), Path('out'), 'slurm')"
    )
    assert _watch([sys.executable, "-c", script], tmp_path) == set()


@pytest.mark.parametrize("command", ["study", "run"])
def test_notebooks(command: str, tmp_path: Path) -> None:
    cells = [
        new_code_cell("run_dir = ''", metadata={"tags": ["parameters"]}),
        new_code_cell("import time\ntime.sleep(2)"),
    ]
    nbformat.write(new_notebook(cells=cells), tmp_path / "01_a.ipynb")
    seen = _watch([sys.executable, "-m", "tttlib", command, "01_a.ipynb"], tmp_path)
    _check_loopback(seen)
    assert seen  # the kernel's ports


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "listens"),
    [
        (["tttlib", "bench", "ttt"], False),
        (["jupyter", "lab", "--no-browser", "--allow-root", "--port-retries", "50"], True),
    ],
)
def test_bench_and_lab(words: list[str], listens: bool, tmp_path: Path) -> None:
    seen = _watch([sys.executable, "-m", *words], tmp_path, seconds=25)
    _check_loopback(seen)
    assert bool(seen) == listens
