"""The commit is told for this checkout only, and the description is complete."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import tttlib
from tttlib.runtime import environment


def test_description_names_code_libraries_and_device() -> None:
    found = environment.describe()
    assert found["tttlib"] == tttlib.__version__
    assert found["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert found["threads"] == torch.get_num_threads()
    assert len(found["device"]) > len("CPU, ") or torch.cuda.is_available()
    assert json.loads(json.dumps(found)) == found


def test_git_state_is_of_this_checkout_only(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sha, dirty = environment.git_state()
    assert (sha is None) == (dirty is None)
    assert sha is None or len(sha) == 40
    inner = Path(environment.__file__).parent / "somewhere" / "environment.py"
    monkeypatch.setattr(environment, "__file__", str(inner))  # as if installed in a subfolder
    assert environment.git_state() == (None, None)
