"""One file of parameters, many notebooks."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from small_notebook import write_notebook

from tttlib import sweep
from tttlib.sweep import parameter_files


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    declared = {"01_a": "steps = 1\nseed = 0", "02_b": "steps = 1\nnames = ['x']"}
    return [
        write_notebook(tmp_path / f"{name}.ipynb", parameters=f"{source}\nrun_dir = ''")
        for name, source in declared.items()
    ]


def test_each_notebook_takes_what_it_declares(paths: list[Path]) -> None:
    given = parameter_files.share_out(paths, {"steps": 5, "seed": 3})
    assert given == {paths[0]: {"steps": 5, "seed": 3}, paths[1]: {"steps": 5}}


def test_a_section_is_for_one_notebook_and_goes_first(paths: list[Path]) -> None:
    text = "notebook 02: {steps: 7, names: [y]}\nsteps: 5\n"
    given = parameter_files.share_out(paths, yaml.safe_load(text))
    assert given == {paths[0]: {"steps": 5}, paths[1]: {"steps": 7, "names": ["y"]}}
    assert parameter_files.of_notebook(paths[1], yaml.safe_load(text)) == given[paths[1]]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"stops": 5}, "no notebook has a parameter 'stops'"),
        ({"notebook 03": {"steps": 5}}, "'notebook 03' needs lines .* there are 01_a, 02_b"),
        ({"notebook 0": {"steps": 5}}, "'notebook 0' needs lines"),
        ({"notebook 01": 5}, "'notebook 01' needs lines"),
        ({"notebook 01": {"names": []}}, "01_a.ipynb has no parameter 'names'"),
        ({"notebook 01": {"steps": "x"}}, "'steps' of 01_a.ipynb cannot be 'x'"),
    ],
)
def test_what_no_notebook_takes_is_refused(
    paths: list[Path], parameters: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        parameter_files.share_out(paths, parameters)


@pytest.mark.parametrize(
    ("name", "notebooks"),
    [
        ("scenes-1000", ["02", "03"]),
        ("scenes", ["01", "02", "03", "04", "05", "06", "07"]),
        ("tiny-imagenet", ["01", "02", "03", "04", "05", "06", "07"]),
    ],
)
def test_the_committed_files_fit_the_notebooks(name: str, notebooks: list[str]) -> None:
    folder = sweep.notebooks_folder()
    found = sweep.read_parameters(folder / "parameters" / f"{name}.yaml")
    given = parameter_files.share_out(sorted(folder.glob("0*.ipynb")), found)
    assert [path.stem[:2] for path, parameters in given.items() if parameters] == notebooks
