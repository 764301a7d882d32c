"""Files beside a grid or a notebook are data: none of them runs in the place of another module."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from small_notebook import write_notebook
from sweeping import TRIVIAL

from tttlib import sweep

ROOT = Path(__file__).resolve().parents[2]
MARK = "open({!r}, 'a').write(__file__ + ' ran\\n')\n"
PLANTED = ("queue.py", "sitecustomize.py", "usercustomize.py", "secrets.py", "tqdm.py", "yaml.py")


@pytest.mark.parametrize("engine", ["local", "dask"])
def test_nothing_beside_a_grid_is_imported_but_the_experiment(engine: str, tmp_path: Path) -> None:
    """The installed command is called in the grid's own folder, and so are the workers."""
    for name in PLANTED:
        (tmp_path / name).write_text(MARK.format(str(tmp_path / "ran")))
    (tmp_path / "beside.py").write_text("from trivial_experiment import trivial as beside\n")
    grid = {"sweeps": [{"experiment": name} for name in (TRIVIAL, "beside:beside")]}
    (tmp_path / "grid.yaml").write_text(json.dumps(grid))
    script = "import sys; sys.path.pop(0); from tttlib.__main__ import main; main()"
    command = [sys.executable, "-c", script, "sweep", "grid.yaml", "--workers", "1"]
    path = os.pathsep.join(map(str, (ROOT, Path(__file__).parent)))
    how: dict = {"cwd": tmp_path, "env": {**os.environ, "PYTHONPATH": path}, "text": True}
    done = subprocess.run([*command, "--engine", engine], capture_output=True, timeout=180, **how)
    assert "2 of 2 units done" in done.stdout, done.stderr
    assert not (tmp_path / "ran").exists()


def test_a_kernel_of_another_python_is_passed_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Module systems set $JUPYTER_PATH; users' folders hold kernels of Pythons that are gone."""
    spec = tmp_path / "kernels" / "python3" / "kernel.json"
    spec.parent.mkdir(parents=True)
    command = [str(tmp_path / "gone" / "python"), "-m", "ipykernel", "-f", "{connection_file}"]
    spec.write_text(json.dumps({"argv": command, "display_name": "old", "language": "python"}))
    for name in ("JUPYTER_PATH", "JUPYTER_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path))
    path = write_notebook(tmp_path / "a.ipynb", "import sys\nprint(sys.executable)")
    notebook = nbformat.read(path, as_version=4)
    notebook.metadata["kernelspec"] = {"name": "conda-env-old-py", "display_name": "old"}
    nbformat.write(notebook, path)
    executed = sweep.run_notebook(path, tmp_path / "out", progress=False)
    cell = nbformat.read(executed, as_version=4).cells[-1]
    assert cell.outputs[0]["text"].strip() == sys.executable
