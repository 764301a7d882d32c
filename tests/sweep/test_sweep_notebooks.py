"""Notebooks run with the parameters asked for, or not at all; what is left behind is named so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat.v4 import new_notebook
from small_notebook import write_notebook

from tttlib import sweep

PARAMETERS = """
# Defaults are the demo profile.
steps: int = 10
lr = 8 * 1e-3 / 256
blr: float = 1e-2
note = "a=b"  # papermill does not see this one
names = ["fog", "contrast"]
paired = True
run_dir = "../runs/interactive"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("note {books}")
    tell = "print(json.dumps([steps, lr, blr, note, names, paired, run_dir, os.getcwd()]))"
    cells = {
        "01_good": [f"import json, os\n{tell}"],
        "02_bad": ["fine = 1", "# divide\nfine / 0", "never = 1"],
        "02_dies": ["import os\nos._exit(3)"],
    }
    for name, sources in cells.items():
        write_notebook(folder / f"{name}.ipynb", *sources, parameters=PARAMETERS)
    (folder / "09_broken.ipynb").write_text("{")
    return folder


def _printed(path: Path) -> Any:
    notebook = nbformat.read(path, as_version=4)
    (out,) = [out for cell in notebook.cells for out in cell.get("outputs", [])]
    return json.loads(out.text)


def test_parameters_replace_defaults(folder: Path, tmp_path: Path) -> None:
    given = {"steps": 3, "note": "c=d", "blr": 1, "names": [], "paired": False, "run_dir": "/x"}
    before = (folder / "01_good.ipynb").read_bytes()
    executed = sweep.run_notebook(folder / "01_good.ipynb", tmp_path, given, progress=False)
    assert executed == tmp_path / "01_good.ipynb"
    assert _printed(executed) == [3, 8e-3 / 256, 1, "c=d", [], False, "/x", str(folder)]
    assert [p.name for p in tmp_path.iterdir()] == ["01_good.ipynb"]
    assert (folder / "01_good.ipynb").read_bytes() == before


def test_relative_paths_are_meant_from_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "there").mkdir()
    tell = "import os\nprint(dataset, os.environ['TTTLIB_DATA'])"
    parameters = "dataset = 'scenes'\nrun_dir = ''"
    write_notebook(tmp_path / "there" / "a.ipynb", tell, parameters=parameters)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TTTLIB_DATA", "files")
    given = {"dataset": "folder:mine", "run_dir": ""}
    copy = sweep.run_notebook("there/a.ipynb", "out", given, progress=False)
    said = nbformat.read(copy, as_version=4).cells[-1].outputs[0]["text"]
    assert said == f"folder:{tmp_path}/mine {tmp_path}/files\n"


def test_a_failing_cell_is_named_and_its_traceback_kept(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(sweep.NotebookError) as caught:
        sweep.run_notebook(folder / "02_bad.ipynb", tmp_path, progress=False)
    failed = tmp_path / "02_bad.failed.ipynb"
    words = "cell [3] (# divide) failed with ZeroDivisionError: division by zero"
    assert str(caught.value) == f"02_bad.ipynb: {words}; see {failed}"
    assert "Traceback" in failed.read_text()
    assert list(tmp_path.iterdir()) == [failed]


@pytest.mark.slow
def test_a_kernel_that_dies_or_takes_too_long_is_an_error_too(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(sweep.NotebookError, match=r"02_dies\.ipynb: DeadKernelError: .*died"):
        sweep.run_notebook(folder / "02_dies.ipynb", tmp_path, progress=False)
    assert [p.name for p in tmp_path.iterdir()] == ["02_dies.failed.ipynb"]
    path = write_notebook(tmp_path / "long.ipynb", "import time\ntime.sleep(60)")
    with pytest.raises(sweep.NotebookError, match="CellTimeoutError"):
        sweep.run_notebook(path, tmp_path / "out", progress=False, timeout=2)


def test_interruption_leaves_no_finished_name(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import papermill

    def interrupted(notebook: Any, output: str, *_: Any, **__: Any) -> None:
        Path(output.format()).write_text("half")
        raise KeyboardInterrupt

    monkeypatch.setattr(papermill, "execute_notebook", interrupted)
    with pytest.raises(KeyboardInterrupt):
        sweep.run_notebook(folder / "01_good.ipynb", tmp_path / "{x}")
    assert [p.name for p in (tmp_path / "{x}").iterdir()] == ["01_good.partial.ipynb"]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("step", 3, r"'step'; it has \(.*\) steps = 10, lr = 8 \* 0.001 / 256, .*note = 'a=b'"),
        ("steps", "ten", r"'steps' .*cannot be 'ten': it needs a int such as 10"),
        ("steps", 1.5, "needs a int"),
        ("steps", True, "needs a int"),
        ("paired", 1, "needs a bool"),
        ("names", "fog", "needs a list"),
        ("note", 3, "needs a str"),
    ],
)
def test_a_wrong_parameter_is_refused_before_anything_runs(
    folder: Path, tmp_path: Path, name: str, value: Any, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        sweep.run_notebook(folder / "01_good.ipynb", tmp_path / "out", {name: value})
    assert not (tmp_path / "out").exists()


def test_a_missing_or_broken_notebook_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no notebook .*01_goood.*has 01_good\.ipynb, 02_bad"):
        sweep.run_notebook(folder / "01_goood.ipynb", tmp_path)
    with pytest.raises(ValueError, match=r"09_broken\.ipynb is no notebook"):
        sweep.run_notebook(folder / "09_broken.ipynb", tmp_path)
    nbformat.write(new_notebook(), tmp_path / "none.ipynb")
    with pytest.raises(ValueError, match="has 0 cells tagged 'parameters', needs one"):
        sweep.declared_parameters(tmp_path / "none.ipynb")


def test_notebooks_are_found_by_path_name_and_beginning(folder: Path) -> None:
    good = (folder / "01_good.ipynb").resolve()
    for name in (good, "01_good", "01_good.ipynb", "01"):
        assert sweep.find_notebook(name, folder) == good
    with pytest.raises(ValueError, match="'02' is ambiguous: 02_bad, 02_dies"):
        sweep.find_notebook("02", folder)
    for name in ("nope", ""):
        with pytest.raises(ValueError, match=rf"'{name}' does not exist; .* has 01_good, 02_bad"):
            sweep.find_notebook(name, folder)


def test_notebooks_folder_is_the_checkouts_else_the_current_ones(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "site-packages" / "tttlib" / "sweep" / "notebooks.py"
    monkeypatch.setattr(sweep.notebooks, "__file__", str(elsewhere))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"found no notebooks in .*checkout"):
        sweep.notebooks_folder()
    (tmp_path / "notebooks").symlink_to(folder)
    assert sweep.notebooks_folder() == tmp_path / "notebooks"
