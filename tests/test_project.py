"""The files around the code agree with each other, and the notebooks keep to their form."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import tttlib
from tttlib import sweep
from tttlib.sweep import parameter_files

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
# Paths of one machine, and settings of one package index, are nothing for a repository.
PRIVATE = re.compile(
    r"(?<![\w.~$}-])/(home|root|work|tmp|mnt|Users)/[a-z]|index[-]url|find[-]links|trusted[-]host"
)
BESIDE = re.compile("shared" + r"/(data|oracles|\w+)\b")


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def _repository_files() -> list[Path]:
    """Files under version control, or about to be."""
    command = [
        "git",
        "-C",
        str(ROOT),
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]
    found = subprocess.run(command, capture_output=True, text=True)
    if found.returncode:
        pytest.skip("not a git checkout")
    return [path for name in found.stdout.split("\0") if (path := ROOT / name).is_file()]


def test_conda_environment_is_in_step_with_pyproject(project: dict[str, Any]) -> None:
    conda = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    *plain, pip = conda["dependencies"]
    python = next(line for line in plain if line.startswith("python "))
    assert python.removeprefix("python ").strip() == project["requires-python"]
    assert "pip" in plain
    (line,) = pip["pip"]
    extras = re.fullmatch(r"-e \.\[([\w,]+)\]", line)
    assert extras is not None
    assert sorted(extras[1].split(",")) == sorted(project["optional-dependencies"])


def test_version_is_told_once_and_the_same(project: dict[str, Any]) -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert project["version"] == tttlib.__version__ == str(citation["version"])
    assert citation["license"] == project["license"] == "MIT"
    identifiers = [r["identifiers"][0]["value"] for r in citation["references"]]
    assert identifiers == ["arXiv:2209.07522", "arXiv:2403.10650"]


def test_makefile_has_the_promised_targets() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([.\w-]+):", text, flags=re.MULTILINE))
    named = {".venv", "study", "test", "test-all", "lab", "notebooks", "bench", "clean"}
    assert named <= targets
    for target in (*sorted(named - {".venv", "test", "clean"}), "lint", "unit", "nbval"):
        assert re.search(rf"^{target}:.*\.venv", text, flags=re.MULTILINE), target
    copies = r"\t\$\(BIN\)/python tests/notebook_copies\.py runs/nbval"
    tests = r"\t\$\(PYTEST\) tests \$\(NBVAL\) runs/nbval"
    assert re.search(rf"^test: lint\n{copies}\n{tests}$", text, flags=re.MULTILINE)


def test_nothing_private_is_in_the_repository() -> None:
    found = []
    for path in _repository_files():
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            continue
        name = path.relative_to(ROOT).as_posix()
        for number, line in enumerate(lines, 1):
            foreign = PRIVATE.search(line)
            beside = None if name == ".ci/run" else BESIDE.search(line)
            found += [f"{name}:{number}: {hit[0]}" for hit in (foreign, beside) if hit]
    assert not found


def test_private_pattern_finds_what_it_is_for() -> None:
    assert PRIVATE.search("see /" + "work/main") and PRIVATE.search("'/" + "tmp/x'")
    assert PRIVATE.search("--extra-index" + "-url")
    assert not PRIVATE.search("https://example.org/work/main")
    assert not PRIVATE.search("notebooks/work/x")
    assert BESIDE.search("../shared" + "/data")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_keeps_to_its_form(path: Path) -> None:
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert notebook["metadata"]["kernelspec"]["language"] == "python"
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert "run_dir" in sweep.declared_parameters(path)  # raises without one parameters cell
    code = [c for c in notebook["cells"] if c["cell_type"] == "code"]
    total = 0
    for cell in code:
        source = "".join(cell["source"])
        total += len(source.splitlines())
        limit = 35 if "parameters" in cell["metadata"].get("tags", []) else 25
        assert len(source.splitlines()) <= limit, source
        assert not any(isinstance(n, ast.ClassDef) for n in ast.walk(ast.parse(source))), source
        assert not any(out["output_type"] == "error" for out in cell["outputs"]), source
    assert total <= 420
    assert any(cell["outputs"] for cell in code), "the committed notebook is not executed"


@pytest.mark.parametrize(
    "path", sorted((ROOT / "notebooks" / "parameters").glob("*.yaml")), ids=lambda p: p.stem
)
def test_parameter_file_names_parameters_that_exist(path: Path) -> None:
    assert parameter_files.share_out(NOTEBOOKS, sweep.read_parameters(path))


# .ci/run, with a `make` that only says what it was given.
@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "a checkout"
    (folder / ".ci").mkdir(parents=True)
    shutil.copy(ROOT / ".ci" / "run", folder / ".ci" / "run")
    make = tmp_path / "bin" / "make"
    make.parent.mkdir()
    make.write_text(
        '#!/bin/sh\necho "make $* $TTTLIB_DATA $TTTLIB_ORACLES"\necho "$SAY"\nexit "$CODE"\n'
    )
    make.chmod(0o755)
    return folder


def _ci(checkout: Path, say: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("TTTLIB_")}
    path = f"{checkout.parent / 'bin'}{os.pathsep}{kept['PATH']}"
    return subprocess.run(
        [checkout / ".ci" / "run"],
        env={**kept, "PATH": path, "SAY": say, "CODE": str(code)},
        capture_output=True,
        text=True,
    )


def test_ci_names_the_folders_beside_the_checkout(checkout: Path) -> None:
    beside = checkout.parent / "shared"
    for name in ("data", "oracles"):
        (beside / name).mkdir(parents=True)
    done = _ci(checkout, "== 12 passed in 3 s ==")
    assert done.returncode == 0
    lines = []
    for target in ("test", "bf16"):
        lines += [f"make {target} {beside / 'data'} {beside / 'oracles'}", "== 12 passed in 3 s =="]
    assert done.stdout.splitlines() == lines


def test_ci_fails_with_the_tests_and_for_skipped_ones(checkout: Path) -> None:
    assert _ci(checkout, "== 1 failed ==", code=2).returncode == 2
    skipped = _ci(
        checkout, "SKIPPED [3] tests/conftest.py:15: needs $TTTLIB_DATA, which is not set"
    )
    assert skipped.returncode == 1
    assert "skipped for want of data" in skipped.stderr
    assert _ci(checkout, "SKIPPED [1] tests/test_x.py:1: needs a CUDA device").returncode == 0


@pytest.mark.parametrize("package", ["data", "models", "sweep"])
def test_the_tests_that_a_table_names_exist(package: str) -> None:
    text = (ROOT / "tttlib" / package / "README.md").read_text(encoding="utf-8")
    named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", text)
    assert named
    for file, function in named:
        code = (ROOT / "tests" / package / file).read_text(encoding="utf-8")
        assert f"def {function}(" in code, f"{file} has no {function}"


def test_tables_name_every_dataset_and_every_released_preset() -> None:
    from tttlib import data
    from tttlib.models.sources import SOURCES

    text = (ROOT / "tttlib" / "data" / "README.md").read_text(encoding="utf-8")
    assert not [name for name in data.NAMES if f"`{name}`" not in text]
    text = (ROOT / "tttlib" / "models" / "README.md").read_text(encoding="utf-8")
    assert not [name for name in SOURCES if f"`{name}`" not in text and name != "large"]
