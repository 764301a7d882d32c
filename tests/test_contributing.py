"""What CONTRIBUTING.md says to type works: its commands and its example of a method are run."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
COMMANDS = [
    line.split("#")[0].strip()
    for block in re.findall(r"```console\n(.*?)```", TEXT, re.DOTALL)
    for line in block.splitlines()
]
(METHOD,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
# What runs elsewhere: in the continuous integration, or as the tests of this very run.
ELSEWHERE = (
    "git clone https://github.com/tttlib/tttlib",
    "cd tttlib",
    "make .venv",
    "make lint",
    "make test",
)
HERE = (
    ".venv/bin/pre-commit install",
    ".venv/bin/python -m pytest tests/adapt",
    ".venv/bin/python -m pytest tests/test_layers.py tests/test_project.py",
    ".venv/bin/pre-commit run --all-files",
    ".venv/bin/python -m pytest tests/adapt/test_methods.py -k bias",
    '.venv/bin/tttlib run 05 -p methods "[source, bn1, tent, bias]"',
)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of this checkout as they are now, in a repository of their own."""
    folder = tmp_path_factory.mktemp("clone") / "tttlib"
    listed = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others"]
    done = subprocess.run([*listed, "--exclude-standard"], capture_output=True, text=True)
    if done.returncode:
        pytest.skip("not a git checkout")
    for name in filter(None, done.stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    for command in ("git init -q", "git add -A"):
        subprocess.run(shlex.split(command), cwd=folder, check=True)
    (folder / ".venv").symlink_to(sys.prefix)  # the environment that runs this test
    return folder


def typed(clone: Path, command: str, **environment: str) -> str:
    """Return what a command prints; the clone's own package is imported."""
    done = subprocess.run(
        shlex.split(command),
        cwd=clone,
        env={**os.environ, "PYTHONPATH": str(clone), "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


def test_every_command_is_run_somewhere() -> None:
    assert sorted(COMMANDS) == sorted([*ELSEWHERE, *HERE])


def test_the_method_is_found_and_passes_the_inherited_tests(clone: Path) -> None:
    path = clone / "tttlib" / "adapt" / "bias.py"
    path.write_text(METHOD, encoding="utf-8")
    try:
        typed(clone, ".venv/bin/ruff check tttlib/adapt/bias.py")
        typed(clone, ".venv/bin/ruff format --check tttlib/adapt/bias.py")
        output = typed(clone, HERE[4].replace(" -k", " -q -k"))
        assert int(re.findall(r"(\d+) passed", output)[0]) >= 5
    finally:
        path.unlink()


def test_the_hooks_are_installed(clone: Path) -> None:
    typed(clone, HERE[0])
    assert (clone / ".git" / "hooks" / "pre-commit").is_file()


def test_the_hooks_pass_but_for_types(clone: Path) -> None:
    """Types take a minute and are checked by `make lint`."""
    typed(clone, HERE[3], SKIP="mypy")


def test_the_hooks_refuse_a_notebook_with_large_outputs(clone: Path) -> None:
    path = clone / "notebooks" / "07_large.ipynb"
    path.write_text('{"cells": [], "blob": "' + "x" * 800_000 + '"}\n', encoding="utf-8")
    try:
        subprocess.run(["git", "add", str(path)], cwd=clone, check=True)
        with pytest.raises(AssertionError, match="07_large"):
            typed(clone, ".venv/bin/pre-commit run notebook-outputs --all-files")
    finally:
        subprocess.run(["git", "rm", "-qf", str(path)], cwd=clone, check=True)


@pytest.mark.slow
@pytest.mark.parametrize("command", [HERE[1], HERE[2]])
def test_the_tests_of_a_room(clone: Path, command: str) -> None:
    typed(clone, f"{command} -q -x")


@pytest.mark.slow
def test_the_method_runs_in_the_notebook(clone: Path) -> None:
    (clone / "tttlib" / "adapt" / "bias.py").write_text(METHOD, encoding="utf-8")
    typed(clone, HERE[5])
    (run,) = (clone / "runs").glob("05*")
    assert any("bias" in path.read_text() for path in (run / "tables").glob("*.csv"))


def test_the_workflows_use_targets_that_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([.\w-]+):", makefile, flags=re.MULTILINE))
    for path in (ROOT / ".github" / "workflows").glob("*.yml"):
        jobs = yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"].values()
        steps = [step.get("run", "") for job in jobs for step in job["steps"]]
        used = {word for step in steps for word in re.findall(r"\bmake ([.\w-]+)", step)}
        assert used and used <= targets, path
