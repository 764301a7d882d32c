"""Rows of code that has been edited since are not served as new: refused by name, or made again."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from command_line import Ended, call
from small_notebook import write_notebook
from sweeping import states

from tttlib import sweep
from tttlib.commands import run as run_command
from tttlib.sweep import code_identity, worker

EXPERIMENT = """
import pandas as pd
from helper import level
from tttlib.results import Store


def measure(run_dir, *, number: int = 1, method: str = "none"):
    unit = {"experiment": "mine", "number": number}
    Store(run_dir / "results").run(unit, lambda: pd.DataFrame({"value": [level() * number]}))
"""


class Project:
    """A folder with a grid, an experiment and its helper, which no repository tracks."""

    def __init__(self, folder: Path) -> None:
        self.out, self.grid = folder / "out", folder / "grid.yaml"
        self.helper, self.experiment = folder / "helper.py", folder / "mine.py"
        self.set_level(1)
        self.experiment.write_text(EXPERIMENT)
        self.grid.write_text("experiment: mine:measure\ngrid:\n  number: [1, 2]\n")

    def set_level(self, level: int) -> None:
        self.helper.write_text(f"def level():\n    return {level}\n")

    def run(self, *words: str) -> Ended:
        """Run the command with nothing in memory of an earlier one."""
        for name in ("mine", "helper"):
            sys.modules.pop(name, None)
        code_identity._file.cache_clear()
        worker._loaded.clear()
        return call("sweep", self.grid, "--out", self.out, "--engine", "serial", *words)

    def values(self) -> list[int]:
        return list(sweep.load(self.out)["value"])


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # edits come within one second
    monkeypatch.setattr(worker, "_loaded", {})
    return Project(tmp_path)


def test_an_edited_helper_is_refused_kept_or_recomputed(project: Project) -> None:
    assert project.run().code == 0 and project.values() == [1, 2]
    project.set_level(10)
    code, said, error = project.run()
    assert (code, said) == (2, "")
    assert f"2 finished units in {project.out} were computed by other code" in error
    assert "edited since: helper.py. " in error
    assert "2 of 2 units done (2 of them earlier)" in project.run("--keep-old").out
    assert project.values() == [1, 2]
    code, said, _ = project.run("--dry-run")
    assert code == 0 and "2 of 2 units would run (2 stale)" in said
    assert "2 of 2 units done (0 of them earlier)" in project.run("--recompute").out
    assert project.values() == [10, 20]
    assert sweep.load(project.out)["sources"].nunique() == 1
    assert len(list(project.out.glob("units/*/results.old1/*.parquet"))) == 2  # nothing is lost
    assert "2 of them earlier" in project.run().out


def test_rows_of_an_unfinished_unit_of_other_code_are_not_resumed(project: Project) -> None:
    assert project.run().code == 0
    for path in project.out.glob("units/*/unit.json"):  # as if killed before the end
        path.write_text(path.read_text().replace('"state": "done"', '"state": "running"'))
    project.set_level(5)
    assert project.run().code == 0 and project.values() == [5, 10]


def test_tables_say_which_code_made_which_rows(project: Project) -> None:
    assert project.run().code == 0
    project.set_level(3)
    project.grid.write_text(project.grid.read_text().replace("[1, 2]", "[1, 2, 3]"))
    assert project.run("--keep-old").code == 0 and project.values() == [1, 2, 9]
    for table in (sweep.load(project.out), sweep.overview(project.out)):
        old, same, new = table["sources"]
        assert old == same != new


def test_an_edit_while_the_sweep_runs_stops_it(project: Project) -> None:
    """A unit edits the helper of the next one."""
    edit = f"\n    with open({str(project.helper)!r}, 'a') as file: file.write('# edited')\n"
    project.experiment.write_text(EXPERIMENT.rstrip() + edit)
    code, _, error = project.run()
    assert code == 2
    assert "source files were edited while the sweep ran; what is done is kept" in error
    assert states(project.out) == ["done", "running"]


def test_a_worker_with_older_code_in_memory_is_refused(project: Project, tmp_path: Path) -> None:
    """A dask worker may be older than the edit."""
    assert project.run().code == 0
    project.set_level(2)
    summary = sweep.run_sweep(project.grid, tmp_path / "b", engine="serial", progress=False)
    assert len(summary.failed) == 2
    assert "still has older code: helper.py; restart it" in summary.failed[0]["error"]


def _notebook(path: Path, factor: int, text: str = "# Title") -> Path:
    code = f"%matplotlib inline\nimport json\nfrom beside import level\n{factor}"
    return write_notebook(path, code, parameters="number = 1\nrun_dir = ''", text=text)


def test_a_notebook_is_its_code_and_what_it_imports(tmp_path: Path) -> None:
    path, helper = _notebook(tmp_path / "a.ipynb", 1), tmp_path / "beside.py"
    helper.write_text("from tttlib import boxes\nlevel = 1\n")
    before = code_identity.of_notebook(path, {})
    assert {"a.ipynb", "beside.py", "tttlib/boxes.py", "tttlib/__init__.py"} <= before.keys()
    _notebook(path, 1, "# Another title")
    assert code_identity.of_notebook(path, {}) == before  # prose computes nothing
    _notebook(path, 2)
    assert code_identity.changed(before, code_identity.of_notebook(path, {})) == "a.ipynb"
    _notebook(path, 1)
    helper.write_text("from tttlib import boxes\nlevel = 3\n")
    assert code_identity.changed(before, code_identity.of_notebook(path, {})) == "beside.py"


@pytest.mark.parametrize(
    ("parameters", "inside", "outside"),
    [
        ({"method": "palm"}, ["palm", "common/adapter"], ["cotta", "law"]),
        ({"method": "palm_ttt"}, ["palm_ttt"], ["cotta"]),
        ({"methods": ["cotta", "law"]}, ["cotta", "law"], ["palm", "dss"]),
        ({"method": "not a method of ours"}, ["palm", "cotta"], []),
        ({}, [], ["palm", "cotta"]),
    ],
)
def test_a_built_in_experiment_uses_the_methods_it_names(
    parameters: dict, inside: list[str], outside: list[str]
) -> None:
    table = code_identity.of_experiment("tttlib.sweep.experiments", parameters)
    assert {f"tttlib/adapt/{name}.py" for name in inside} <= table.keys()
    assert not {f"tttlib/adapt/{name}.py" for name in outside} & table.keys()
    assert {"tttlib/sweep/experiments.py", "tttlib/evaluate/__init__.py"} <= table.keys()
    assert not any(name.startswith(("tttlib/commands", "tttlib/sweep/engines")) for name in table)


def test_a_run_folder_remembers_its_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ran: list[Path] = []

    def run_notebook(path: Path, folder: Path, parameters: dict) -> Path:
        ran.append(path)
        (Path(parameters["run_dir"]) / "results").mkdir(exist_ok=True)
        (Path(parameters["run_dir"]) / "results" / "x.parquet").touch()
        return folder / path.name

    monkeypatch.setattr(run_command, "run_notebook", run_notebook)
    path, helper, run = _notebook(tmp_path / "a.ipynb", 1), tmp_path / "beside.py", tmp_path / "run"
    helper.write_text("level = 1\n")
    for _ in range(2):
        run_command.run_into(run, path, {})
    helper.write_text("level = 2\n")
    with pytest.raises(ValueError, match=r"has rows of a\.ipynb that other .* since: beside\.py\."):
        run_command.run_into(run, path, {})
    assert len(ran) == 2
    run_command.run_into(tmp_path / "another", path, {})
    run_command.run_into(run, path, {}, keep_old=True)
    assert len(ran) == 4 and "are used; edited since: beside.py" in caplog.text
    with pytest.raises(ValueError, match="edited since"):  # the rows are still a mixture
        run_command.run_into(run, path, {})
    (run / "code.json").write_text("[1")
    run_command.run_into(run, path, {})
    assert "code.json is damaged" in caplog.text
