"""The command line: help, one line per error, and how names and values reach the notebooks."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from command_line import call
from small_notebook import write_notebook

from tttlib import __main__ as cli
from tttlib import sweep
from tttlib.commands import run, study


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """What `run` asked of sweep.run_notebook, which does nothing here; works in an empty folder."""
    asked: dict[str, Any] = {}

    def run_notebook(path: Path, folder: Path, parameters: dict[str, Any]) -> Path:
        asked.update(path=path, folder=folder, parameters=parameters)
        if "error" in asked:
            raise asked["error"]
        return folder / path.name

    monkeypatch.setattr(run, "run_notebook", run_notebook)
    monkeypatch.chdir(tmp_path)
    write_notebook(tmp_path / "02_x.ipynb", parameters="steps = 1\nlr = 0.1\nrun_dir = ''")
    (tmp_path / "p.yaml").write_text("steps: 5\nlr: 1e-3\n")
    return asked


@pytest.mark.parametrize(
    ("words", "heavy", "said"),
    [
        (["--help"], {"torch", "pandas", "papermill", "matplotlib"}, {"--debug", "TTTLIB_DATA"}),
        (["data", "list"], {"torch", "pandas", "numpy"}, {"cifar10-c", "built in"}),
    ],
)
def test_what_is_asked_first_is_quick(words: list[str], heavy: set[str], said: set[str]) -> None:
    script = (
        "import sys\nfrom tttlib.__main__ import main\n"
        f"try:\n    main({words})\n"
        f"finally:\n    assert not {heavy} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert all(word in done.stdout for word in said)


COMMANDS = "study|run|train|models|bench|results|compare|sweep|publish|data|data list|data check"


@pytest.mark.parametrize("words", [*COMMANDS.split("|"), "data download", "data make-c"])
def test_every_command_has_help(words: str) -> None:
    ended = call(*words.split(), "--help")
    assert ended.code == 0 and f"Usage: tttlib {words}" in ended.out
    assert words.split()[0] in call("--help").out


def test_parameters_come_from_file_and_line(ran: dict[str, Any], tmp_path: Path) -> None:
    words = ["-p", "steps", "7", "-p", "shift", "-1", "--parameter", "names", "[fog, a=b]"]
    ended = call("run", "02_x.ipynb", *words, "-p", "note=x=y", "--parameters", "p.yaml")
    assert ended.code == 0 and ran["path"] == tmp_path / "02_x.ipynb"
    given = {"steps": 7, "lr": 1e-3, "shift": -1, "names": ["fog", "a=b"], "note": "x=y"}
    assert ran["parameters"] == {**given, "run_dir": str(tmp_path / "runs" / "interactive")}
    assert ran["folder"] == Path("runs/interactive/notebooks")
    assert "executed: runs/interactive/notebooks/02_x.ipynb" in ended.out
    assert call("run", "02_x.ipynb", "--run-dir", "elsewhere").code == 0
    assert ran["parameters"] == {"run_dir": str(tmp_path / "elsewhere")}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "none"], "error: notebook 'none' does not exist; "),
        (["run", "02_x.ipynb", "-p", "steps"], "error: -p needs a name and a value, such as"),
        (["run", "02_x.ipynb", "-p"], "error: -p needs a name and a value, such as"),
        (["run", "02_x.ipynb", "-p", "a", "[1"], "error: value '[1' is no YAML"),
        (["run", "02_x.ipynb", "--parameters", "q.yaml"], "error: no parameter file q.yaml; "),
        (["study", "none"], "error: notebook 'none' does not exist; "),
        (["study", "03_y.ipynb"], "03_y.ipynb is no notebook"),
    ],
)
def test_an_error_is_one_line_and_exit_code_2(
    ran: dict, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: list[str], said: str
) -> None:
    monkeypatch.setattr(sweep, "notebooks_folder", lambda: tmp_path)
    (tmp_path / "03_y.ipynb").write_text("{}")
    code, out, err = call(*words)
    assert said in err and err.startswith("error: ")
    assert (code, out, err.count("\n")) == (2, "", 1)


@pytest.mark.parametrize("error", [sweep.NotebookError("cell [3]"), FileNotFoundError("no data")])
def test_what_the_user_can_put_right_has_no_traceback(ran: dict, error: Exception) -> None:
    ran["error"] = error
    assert call("run", "02_x.ipynb") == (2, "", f"error: {error}\n")
    for place in (["--debug", "run", "02_x.ipynb"], ["run", "02_x.ipynb", "--debug"]):
        with pytest.raises(type(error)):
            cli.main(place)
    ran["error"] = KeyError("defect")  # keeps its traceback
    with pytest.raises(KeyError):
        cli.main(["run", "02_x.ipynb"])


@pytest.mark.parametrize(
    ("number", "where", "helps"),
    [
        (errno.EACCES, "elsewhere/x", "with --run-dir"),
        (errno.EROFS, "cache/decoded/x", "set $TTTLIB_CACHE"),
        (errno.ENOSPC, "data/x", "set $TTTLIB_DATA"),
        (errno.EDQUOT, None, "--run-dir and $TTTLIB_CACHE"),
    ],
)
@pytest.mark.parametrize("inside", [False, True])
def test_what_cannot_be_written_is_one_line_with_what_helps(
    ran: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    number: int,
    where: str | None,
    helps: str,
    inside: bool,
) -> None:
    """In the command itself, or inside a notebook's cell, whose error quotes it."""
    monkeypatch.setenv("TTTLIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TTTLIB_DATA", str(tmp_path / "data"))
    names = () if where is None else (str(tmp_path / where),)
    error = OSError(number, os.strerror(number), *names)
    ran["error"] = sweep.NotebookError(f"02.ipynb: cell [3]: {error}") if inside else error
    code, _, said = call("run", "02_x.ipynb")
    assert code == 2 and said.startswith("error: ") and said.count("\n") == 1
    assert os.strerror(number) in said and helps in said


def test_a_reader_that_has_gone_is_no_error() -> None:
    """As in `tttlib data list | head -0`."""
    command = [sys.executable, "-c", "from tttlib.__main__ import main; main(['data', 'list'])"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        said = process.stderr.read().decode()
    assert "Traceback" not in said and "error:" not in said


def test_ctrl_c_says_what_it_means(ran: dict[str, Any]) -> None:
    ran["error"] = KeyboardInterrupt()
    code, _, said = call("run", "02_x.ipynb")
    assert code == 130 and "interrupted: finished results are kept; the same" in said


def test_study_prints_times_memory_and_report(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[Any] = []
    record = {"seconds": {"01_a": 61.26, "02_b": 100.0}, "wall_seconds": 101.3}
    record |= {"peak_memory_bytes": 3 * 2**29}

    def run_study(*arguments: Any, workers: int | None) -> Path:
        asked.extend([*arguments, workers])
        return tmp_path / "index.html"

    monkeypatch.setattr(study, "run_study", run_study)
    monkeypatch.setattr(study, "read_record", lambda folder: record)
    ended = call("study", "-p", "steps", "3", "--runs", "here", "--fresh", "--workers", "3")
    assert ended.code == 0 and asked == [Path("here"), None, {"steps": 3}, True, 3]
    assert ended.out.splitlines() == [
        "   61.3 s  01_a",
        "  100.0 s  02_b",
        "  101.3 s  in all",
        "peak memory of a notebook: 1.50 GB",
        f"report: {tmp_path / 'index.html'}",
    ]


def test_an_unknown_recipe_lists_the_known_ones() -> None:
    from tttlib.models.training import RECIPES

    code, _, said = call("train", "nope")
    assert code == 2 and "'nope'" in said and next(iter(RECIPES)) in said
