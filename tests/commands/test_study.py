"""A study of two tiny notebooks: its folder, its report, and how it is interrupted and resumed."""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import psutil
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output
from small_notebook import write_notebook

from tttlib import sweep
from tttlib.commands import study
from tttlib.sweep import folder_lock
from tttlib.sweep.engines import machine

PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9"
    "awAAAABJRU5ErkJggg=="
)
FIRST = f"""
import base64, pathlib
run = pathlib.Path(run_dir)
image = base64.b64decode("{PIXEL}")
(run / "figures" / "01_pca.png").write_bytes(image)
(run / "figures" / "01_pca.txt").write_text("Shift <moves> latents.")
(run / "tables" / "01_pca.csv").write_text("a\\n1\\n")
from tttlib import results
from tttlib.tables import claims
held = claims.Claim("fog & snow", 0.457, 0.2, 0.6, 70, "images", "above")
claims.keep(results.Store(run / "results"), dict(notebook="01"), [held])
"""
SECOND = """
import sys
from IPython.display import HTML, Image, Javascript, display
ballast = b"x" * 700_000_000  # for the peak of memory
display(HTML("<b>bold result</b>"), Javascript("require(['x'])"))
display({"application/vnd.jupyter.widget-view+json": {"model_id": "m"}, "text/plain": "bar"},
        raw=True)
print("  10%|# | 1/10\\r 100%|##| 10/10", file=sys.stderr)
print("told on stderr", file=sys.stderr)
print(f"{steps} steps in {run_dir}")
"""


def _two_notebooks(folder: Path) -> list[Path]:
    given = 'steps = 3\nrun_dir = "../runs/interactive"'
    (folder / "beside.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
    text = "# Why <this>?\n## Results\n![far](https://example.org/far.png) ![near](beside.svg)"
    second = "# Second\n## Results"
    return [
        write_notebook(folder / "01_first.ipynb", FIRST, text=text),
        write_notebook(folder / "02_second.ipynb", SECOND, text=second, parameters=given),
    ]


@pytest.fixture
def notebooks(tmp_path: Path) -> list[Path]:
    return _two_notebooks(tmp_path)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    runs = folder / "runs"
    return study.run_study(runs, _two_notebooks(folder), {"steps": 7}, progress=False)


def test_a_run_folder_holds_everything(report: Path) -> None:
    run = report.parent
    assert re.fullmatch(r"\d{8}-\d{6}", run.name)
    assert {p.name for p in run.iterdir() if not p.name.startswith(".")} == {
        "notebooks", "results", "figures", "tables", "units", "study.json", "index.html",
    }  # fmt: skip
    assert _names(run) == ["01_first.ipynb", "02_second.ipynb"]
    assert f"7 steps in {run}" in (run / "notebooks" / "02_second.ipynb").read_text()
    record = study.read_record(run)
    assert record["parameters"] == {"steps": 7}
    assert set(record["seconds"]) == {"01_first", "02_second"}
    assert min(*record["seconds"].values(), record["wall_seconds"]) > 0.3
    assert record["environment"]["device"]


@pytest.mark.skipif(sys.platform == "win32", reason="not measured there")
def test_peak_memory_is_that_of_the_kernels(report: Path) -> None:
    # a forked child counts what its parent holds, and these tests hold much
    own = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak = study.read_record(report.parent)["peak_memory_bytes"]
    assert 0.7e9 < peak < max(1.6e9, 1.2 * own)


def test_the_report_opens_with_what_was_decided_and_figures(report: Path) -> None:
    page = report.read_text(encoding="utf-8")
    places = [
        page.index(words)
        for words in (
            "<h1>", "<nav", ">Why &lt;this&gt;?</a>", "fog &amp; snow”: +45.7 points",
            "<strong>held",
            'id="figures"', "Shift &lt;moves&gt; latents.", '<a href="tables/01_pca.csv">',
            'id="nb-01_first"', "<h2>Why &lt;this&gt;?</h2>",
            "<h3 id=", 'id="nb-02_second"', "bold result", f"7 steps in {report.parent}",
            'id="run"',
        )
    ]  # fmt: skip
    assert places == sorted(places)
    assert 'name="viewport"' in page and "@media print" in page
    for anchor in re.findall(r'href="#([^"]+)"', page):
        assert page.count(f'id="{anchor}"') == 1, anchor

    # and it needs nothing else
    assert not re.search(r"<(script|link|iframe|object|embed|base)\b|@import|url\(", page)
    sources = re.findall(r'\bsrc(?:set)?="([^"]{0,40})', page)
    assert len(sources) >= 2
    assert all(source.startswith("data:image/") for source in sources)
    assert '<a href="https://example.org/far.png">' in page  # a link, not a picture

    # what works only in JupyterLab stays out
    outputs = re.sub(r'<div class="highlight.*?</div>', "", page, flags=re.DOTALL)
    assert "told on stderr" in outputs and "bold result" in outputs
    assert "10/10" not in outputs  # progress bars, as text
    assert ">bar<" not in outputs  # and as widgets
    assert "require(" not in outputs


# Interruption and resumption, with an executor that only writes what it was given.
@pytest.fixture
def executor(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Callable[..., list[str]]:
    ran: list[str] = []
    stop: dict[str, BaseException] = {}

    def run_notebook(path: Path, folder: Path, parameters: Any, **_: Any) -> Path:
        folder.mkdir(exist_ok=True)
        if path.stem in stop:
            (folder / f"{path.stem}.partial.ipynb").write_text("half")
            if isinstance(stop[path.stem], KeyboardInterrupt):
                del stop[path.stem]
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(5)
            raise stop.pop(path.stem)
        ran.append(path.stem)
        cell = new_code_cell("", outputs=[new_output("stream", text=json.dumps(parameters))])
        nbformat.write(new_notebook(cells=[cell]), folder / path.name)
        return folder / path.name

    monkeypatch.setattr(sweep.notebooks, "run_notebook", run_notebook)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))

    def set_stop(**stops: BaseException) -> list[str]:
        ran.clear()
        stop.update(stops)
        return ran

    return set_stop


def _run(notebooks: list[Path], **options: Any) -> Path:
    runs = notebooks[0].parent / "runs"
    return study.run_study(runs, notebooks, workers=1, progress=False, **options).parent


def _interrupt(notebooks: list[Path], executor: Callable[..., list[str]]) -> Path:
    ran = executor(**{"02_second": KeyboardInterrupt()})
    with pytest.raises(KeyboardInterrupt):
        _run(notebooks)
    assert ran == ["01_first"]
    (run,) = (notebooks[0].parent / "runs").iterdir()
    assert not (run / "index.html").exists()
    assert (run / "notebooks" / "01_first.ipynb").exists()
    ran.clear()
    return run


def test_an_interrupted_study_is_resumed_where_it_stopped(
    notebooks: list[Path], executor: Callable[..., list[str]]
) -> None:
    run = _interrupt(notebooks, executor)
    ran = executor()
    assert _run(notebooks) == run
    assert ran == ["02_second"]
    assert set(study.read_record(run)["seconds"]) == {"01_first", "02_second"}
    assert _run(notebooks) != run  # finished: the next call is another run
    assert ran == ["02_second", "01_first", "02_second"]


@pytest.mark.parametrize("change", ["parameters", "notebooks", "fresh", "damage", "in use"])
def test_a_run_of_other_things_is_not_resumed(
    notebooks: list[Path],
    executor: Callable[..., list[str]],
    caplog: pytest.LogCaptureFixture,
    change: str,
) -> None:
    run, lock = _interrupt(notebooks, executor), None
    given = {"parameters": {"parameters": {"steps": 5}}, "fresh": {"fresh": True}}
    if change == "notebooks":
        write_notebook(notebooks[0], "1", text="# Changed")
    elif change == "damage":
        (run / "study.json").write_text("{")
    elif change == "in use":
        lock = folder_lock.held(run)
    ran = executor()
    with lock or contextlib.nullcontext():
        assert _run(notebooks, **given.get(change, {})) != run
    assert ran == ["01_first", "02_second"]
    if change in ("parameters", "notebooks"):
        assert f"changed: {change}" in caplog.text


def test_failed_notebooks_and_damaged_copies_are_made_again(
    notebooks: list[Path], executor: Callable[..., list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    executor(**{"02_second": sweep.NotebookError("cell [2] failed")})
    with pytest.raises(sweep.NotebookError):
        _run(notebooks)
    (run,) = (notebooks[0].parent / "runs").iterdir()
    (run / "notebooks" / "01_first.ipynb").write_text('{"cells": [')
    ran = executor()
    assert _run(notebooks) == run and ran == ["01_first", "02_second"]
    assert "01_first.ipynb is damaged: the unit runs again" in caplog.text


def test_wrong_parameters_are_refused_before_anything_runs(notebooks: list[Path]) -> None:
    runs = notebooks[0].parent / "runs"
    for name in ("step", "run_dir"):
        with pytest.raises(ValueError, match=f"no notebook has a parameter '{name}'; .* steps"):
            study.run_study(runs, notebooks, {name: 1})
    with pytest.raises(ValueError, match=r"'steps' .* needs a int"):
        study.run_study(runs, notebooks, {"steps": "many"})
    with pytest.raises(ValueError, match="workers must be 1 or more, not 0"):
        study.run_study(runs, notebooks, workers=0)
    write_notebook(notebooks[1], parameters="steps = 3")
    with pytest.raises(ValueError, match="no parameter 'run_dir'"):
        study.run_study(runs, notebooks)
    assert not runs.exists()


@pytest.mark.slow
def test_ctrl_c_leaves_what_is_finished_and_a_second_call_resumes(notebooks: list[Path]) -> None:
    folder = notebooks[0].parent
    waits = 'import time, pathlib\nwhile not pathlib.Path("go").exists():\n    time.sleep(0.1)'
    write_notebook(notebooks[1], waits)
    command = [sys.executable, "-m", "tttlib", "study", *map(str, notebooks), "--runs", "runs"]
    process = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    begun = ("01_first.ipynb", "02_second.partial.ipynb")
    while not all(list(folder.glob(f"runs/*/notebooks/{name}")) for name in begun):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.2)
    time.sleep(2)  # well inside the waiting cell
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "interrupted: finished notebooks and results are kept" in said
    assert "Traceback" not in said and "leaked" not in said
    (run,) = (folder / "runs").iterdir()
    assert _names(run) == ["01_first.ipynb", "02_second.partial.ipynb"]
    first = (run / "notebooks" / "01_first.ipynb").stat().st_mtime_ns

    (folder / "go").touch()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert f"report: {run / 'index.html'}" in done.stdout
    assert _names(run) == [p.name for p in notebooks]
    assert (run / "notebooks" / "01_first.ipynb").stat().st_mtime_ns == first
    assert "resuming" in done.stderr


# Several notebooks at once.
MEET = """
import os, pathlib, time
folder = pathlib.Path(run_dir)
(folder / f"{me}.pid").write_text(str(os.getpid()))
end = time.monotonic() + 120
while not (folder / f"{other}.pid").exists():
    assert time.monotonic() < end, f"{other} did not run at the same time"
    time.sleep(0.05)
"""
THREADS = "(folder / f'{me}.threads').write_text(os.environ['OMP_NUM_THREADS'])"
SCRIPT = """
import json, sys
from pathlib import Path
from tttlib.commands import study
study.run_study("runs", ["a.ipynb", "b.ipynb"], json.loads(sys.argv[1]), workers=2)
"""
SLEEP = "import time\ntime.sleep(600)"
PAIR = {"notebook a": {"me": "a", "other": "b"}, "notebook b": {"me": "b", "other": "a"}}


def _pair(folder: Path, first: str, second: str) -> list[Path]:
    """Two notebooks that wait for each other, and then run a cell of their own."""
    parameters = 'me = ""\nother = ""\nrun_dir = ""'
    cells = {"a": (MEET, first), "b": (MEET, second)}
    return [
        write_notebook(folder / f"{me}.ipynb", *sources, parameters=parameters)
        for me, sources in cells.items()
    ]


def _run_pair(folder: Path, first: str, second: str) -> None:
    paths = _pair(folder, first, second)
    study.run_study(folder / "runs", paths, PAIR, workers=2, progress=False)


def _names(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "notebooks").iterdir())


def test_two_notebooks_run_together_and_share_the_threads(tmp_path: Path) -> None:
    """In a process, which tells when it exits of locks that nobody gave back."""
    _pair(tmp_path, THREADS, THREADS)
    command = [sys.executable, "-c", SCRIPT.strip(), json.dumps(PAIR)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=400)
    assert (done.returncode, done.stdout) == (0, "")
    assert not re.search("[Ww]arning|leaked", done.stderr), done.stderr
    (run,) = (tmp_path / "runs").iterdir()
    assert _names(run) == ["a.ipynb", "b.ipynb"]
    share = max(1, machine.cores() // 2)
    asked = os.environ.get("OMP_NUM_THREADS", "")
    share = min(share, int(asked)) if asked.isdigit() else share
    assert [(run / f"{me}.threads").read_text() for me in "ab"] == [str(share)] * 2
    record = study.read_record(run)
    assert set(record["seconds"]) == {"a", "b"} and record["environment"]["notebooks_at_once"] == 2


def test_one_that_fails_ends_the_others(tmp_path: Path) -> None:
    with pytest.raises(sweep.NotebookError, match=r"a\.ipynb: .*ZeroDivisionError"):
        _run_pair(tmp_path, "1 / 0", SLEEP)
    (run,) = (tmp_path / "runs").iterdir()
    assert _names(run) == ["a.failed.ipynb", "b.partial.ipynb"]
    assert _gone(int((run / "b.pid").read_text()))


def test_a_killed_worker_is_named(tmp_path: Path) -> None:
    kill = "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)\nimport time\ntime.sleep(600)"
    with pytest.raises(sweep.NotebookError, match=r"b\.ipynb: its worker died .*--workers 1"):
        _run_pair(tmp_path, SLEEP, kill)
    assert all(_gone(int(path.read_text())) for path in tmp_path.glob("runs/*/?.pid"))


@pytest.mark.parametrize(
    ("gpus", "cores", "memory", "n", "expected"),
    [([], 2, 24, 6, 2), ([], 16, 24, 6, 6), ([], 16, 7, 6, 2), ([], 8, 1, 6, 1),
     (["0"], 8, 24, 6, 1), (["0", "1"], 8, 24, 6, 2), ([], 8, 24, 1, 1), ([], 8, 24, 0, 1)],
)  # fmt: skip
def test_as_many_as_the_machine_carries(
    monkeypatch: pytest.MonkeyPatch, gpus: list, cores: int, memory: int, n: int, expected: int
) -> None:
    free = SimpleNamespace(available=memory * 2**30)
    monkeypatch.setattr(machine, "gpus", lambda: gpus)
    monkeypatch.setattr(machine, "cores", lambda: cores)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free)
    assert study.default_workers(n) == expected


def _gone(pid: int) -> bool:
    """Whether a process has ended, at the latest in twenty seconds."""
    end = time.monotonic() + 20
    with contextlib.suppress(psutil.NoSuchProcess):
        while psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
            if time.monotonic() > end:
                return False
            time.sleep(0.1)
    return True
