"""Several notebooks at once: really together, with a share of the threads, and ended together."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import psutil
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from tttlib.sweep import NotebookError, several
from tttlib.sweep.engines import machine

MEET = """
import os, pathlib, time
folder = pathlib.Path(run_dir)
(folder / f"{me}.pid").write_text(str(os.getpid()))
end = time.monotonic() + 60
while not (folder / f"{other}.pid").exists():
    assert time.monotonic() < end, f"{other} did not run at the same time"
    time.sleep(0.05)
"""
THREADS = "import torch\n(folder / f'{me}.threads').write_text(str(torch.get_num_threads()))"
SCRIPT = """
import json, sys
from pathlib import Path
from tttlib.sweep import several
given = {Path(path): values for path, values in json.loads(sys.argv[1]).items()}
list(several.run_notebooks(given, Path("out"), workers=2))
"""
SLEEP = "import time\ntime.sleep(600)"


def _pair(folder: Path, first: str, second: str) -> dict[Path, dict[str, str]]:
    """Two notebooks that wait for each other, and then run a cell of their own."""
    parameters = 'me = ""\nother = ""\nrun_dir = ""'
    given = {}
    for me, other, last in (("a", "b", first), ("b", "a", second)):
        cells = [
            new_code_cell(parameters, metadata={"tags": ["parameters"]}),
            new_code_cell(MEET.strip()),
            new_code_cell(last),
        ]
        nbformat.write(new_notebook(cells=cells), folder / f"{me}.ipynb")
        given[folder / f"{me}.ipynb"] = {"me": me, "other": other, "run_dir": str(folder)}
    return given


def _run(given: dict[Path, dict[str, str]], out: Path) -> list[several.Executed]:
    return list(several.run_notebooks(given, out, workers=2, progress=False))


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_two_notebooks_run_together_and_share_the_threads(tmp_path: Path) -> None:
    done = _run(_pair(tmp_path, THREADS, THREADS), tmp_path / "out")
    assert {one.path.stem for one in done} == {"a", "b"}
    assert _names(tmp_path / "out") == ["a.ipynb", "b.ipynb"]
    share = max(1, machine.cores() // 2)
    asked = os.environ.get("OMP_NUM_THREADS", "")
    share = min(share, int(asked)) if asked.isdigit() else share
    assert [(tmp_path / f"{me}.threads").read_text() for me in "ab"] == [str(share)] * 2
    assert all(one.peak_memory_bytes is None or one.peak_memory_bytes > 2**26 for one in done)


def test_nothing_is_said_at_the_end(tmp_path: Path) -> None:
    """Python tells, when the process exits, of locks that nobody gave back."""
    given = {str(path): values for path, values in _pair(tmp_path, "1", "1").items()}
    command = [sys.executable, "-c", SCRIPT.strip(), json.dumps(given)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "")
    assert not re.search("[Ww]arning|leaked", done.stderr), done.stderr
    assert _names(tmp_path / "out") == ["a.ipynb", "b.ipynb"]


def test_one_that_fails_ends_the_others(tmp_path: Path) -> None:
    with pytest.raises(NotebookError, match=r"a\.ipynb: .*ZeroDivisionError"):
        _run(_pair(tmp_path, "1 / 0", SLEEP), tmp_path / "out")
    assert _names(tmp_path / "out") == ["a.failed.ipynb", "b.partial.ipynb"]
    assert _gone(int((tmp_path / "b.pid").read_text()))


def test_a_killed_worker_is_named(tmp_path: Path) -> None:
    kill = "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)\nimport time\ntime.sleep(600)"
    with pytest.raises(NotebookError, match=r"b\.ipynb: its process died .*--workers 1"):
        _run(_pair(tmp_path, SLEEP, kill), tmp_path / "out")
    assert all(_gone(int((tmp_path / f"{me}.pid").read_text())) for me in "ab")


def test_a_reader_who_leaves_ends_the_workers(tmp_path: Path) -> None:
    given = _pair(tmp_path, "'done'", SLEEP)
    one = next(running := several.run_notebooks(given, tmp_path / "out", workers=2, progress=False))
    assert one.path.stem == "a"
    running.close()  # as Ctrl-C does
    assert _names(tmp_path / "out") == ["a.ipynb", "b.partial.ipynb"]
    assert _gone(int((tmp_path / "b.pid").read_text()))


@pytest.mark.parametrize(
    ("gpus", "cores", "memory", "n", "expected"),
    [([], 2, 24, 6, 2), ([], 16, 24, 6, 6), ([], 16, 7, 6, 2), ([], 8, 1, 6, 1),
     (["0"], 8, 24, 6, 1), (["0", "1"], 8, 24, 6, 2), ([], 8, 24, 1, 1), ([], 8, 24, 0, 1)],
)  # fmt: skip
def test_as_many_as_the_machine_carries(
    monkeypatch: pytest.MonkeyPatch,
    gpus: list[str],
    cores: int,
    memory: int,
    n: int,
    expected: int,
) -> None:
    class Memory:
        available = memory * 2**30

    monkeypatch.setattr(machine, "gpus", lambda: gpus)
    monkeypatch.setattr(machine, "cores", lambda: cores)
    monkeypatch.setattr(psutil, "virtual_memory", Memory)
    assert several.default_workers(n) == expected


def _gone(pid: int) -> bool:
    """Whether a process has ended, at the latest in ten seconds."""
    end = time.monotonic() + 10
    with contextlib.suppress(psutil.NoSuchProcess):
        while psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
            if time.monotonic() > end:
                return False
            time.sleep(0.1)
    return True
