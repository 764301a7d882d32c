"""A wheel built from the tree holds everything, and works outside the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
USE = """
import sys
from tttlib import adapt, boxes, corruptions, data, models, results, streams, ttt
from tttlib.models import zoo
assert adapt.__file__.startswith(sys.argv[1]), adapt.__file__
images = data.load("scenes", "test", n=20)
batch = next(iter(streams.continual(images, ["fog"], severity=5, batch_size=20)))
logits = adapt.create("palm", zoo.load("wrn-scenes"))(batch.images)
assert logits.shape == (20, 10) and logits.isfinite().all()
assert len(results.published("palm"))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out)]
    done = subprocess.run([*command, str(ROOT)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = out.glob("*.whl")
    return path


def test_the_wheel_carries_weights_tables_and_types(wheel: Path) -> None:
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("tttlib/")}
    package = (p for p in (ROOT / "tttlib").rglob("*") if p.is_file())
    expected = {p.relative_to(ROOT).as_posix() for p in package if "__pycache__" not in p.parts}
    assert expected <= inside
    assert "tttlib/py.typed" in inside


def test_the_wheel_works_outside_the_checkout(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)  # as an installer does with a pure wheel
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("TTTLIB_", "PYTHON"))}
    done = subprocess.run(
        [sys.executable, "-c", USE, str(site)],
        cwd=tmp_path,
        env={**environment, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
