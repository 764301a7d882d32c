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

import psutil
import pytest
from small_notebook import write_notebook
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


def _watch(words: list[str], folder: Path, seconds: float | None = None) -> set[tuple[str, int]]:
    """Run Python to its end (or for so long): where its tree listens, on this machine alone."""
    seen, command = set[tuple[str, int]](), [sys.executable, *words]
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
    assert not {a for a in seen if not ipaddress.ip_address(a[0]).is_loopback}
    return seen


@pytest.mark.parametrize("engine", ["serial", "local", "dask"])
def test_sweeps(engine: str, tmp_path: Path) -> None:
    grid = {"experiment": TRIVIAL, "parameters": {"seconds": 1}, "grid": {"seed": [0, 1]}}
    (tmp_path / "grid.yaml").write_text(json.dumps(grid))
    words = ["sweep", "grid.yaml", "--engine", engine, "--workers", "2", "--out", "out"]
    seen = _watch(["-m", "tttlib", *words], tmp_path)
    assert bool(seen) == (engine == "dask")  # a scheduler, two nannies, two workers


def test_jobs_on_this_machine(tmp_path: Path) -> None:
    """The jobs of submitit, as the engine slurm starts them."""
    script = (
        "from pathlib import Path\nfrom sweeping import run, units_of\n"
        "run(units_of({'seconds': 1.0}, seed=[0]), Path('out'), 'slurm')"
    )
    assert _watch(["-c", script], tmp_path) == set()


@pytest.mark.parametrize("command", ["study", "run"])
def test_notebooks(command: str, tmp_path: Path) -> None:
    write_notebook(tmp_path / "01_a.ipynb", "import time\ntime.sleep(1)")
    assert _watch(["-m", "tttlib", command, "01_a.ipynb"], tmp_path)  # the kernel's ports


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "listens"),
    [
        (["tttlib", "bench", "ttt"], False),
        (["jupyter", "lab", "--no-browser", "--allow-root", "--port-retries", "50"], True),
    ],
)
def test_bench_and_lab(words: list[str], listens: bool, tmp_path: Path) -> None:
    assert bool(_watch(["-m", *words], tmp_path, seconds=25)) == listens
