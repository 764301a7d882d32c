"""YAML that would be changed in silence, or grow without bounds, is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tttlib import sweep

BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]\n"
    for old, new in zip("abcdef", "bcdefg", strict=True)
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("steps: 1\nlr: 2\nsteps: 3\n", "'steps' stands twice, again in line 3"),
        ("grid: {seed: [0], 'seed': [1]}", "'seed' stands twice"),
        ("sweeps:\n- experiment: a\n  experiment: b\n", "'experiment' stands twice"),
        (BOMB, "aliases stand for more than 100000 values"),
        ("a: &a [*a]", "a value contains itself"),
        ("a: " + "[" * 1500, "nested too deeply"),
        ("day: 2026-13-45", "no YAML"),
    ],
)
def test_ambiguous_and_endless_files_are_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "grid.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"grid\.yaml is no YAML: .*{words}|{words}"):
        sweep.read_parameters(path)


def test_aliases_and_overrides_of_ordinary_size_are_read(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    text = "base: &b {steps: 1, lr: 0.5}\nmine:\n  <<: *b\n  steps: 2\nsame: [*b, *b]\n1x: 3\n"
    path.write_text(text)
    assert sweep.read_parameters(path)["mine"] == {"steps": 2, "lr": 0.5}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_files_of_other_systems_are_read(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "p.yaml"
    path.write_bytes("name: Füße\r\nsteps: 2\r\n".encode(encoding))
    assert sweep.read_parameters(path) == {"name": "Füße", "steps": 2}


def test_parameter_files_are_read_as_people_write_numbers(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text("lr: 1e-3\nsteps: 20\nnames: [fog, 5E2]\nempty:\nlow: -1.5e+1\nname: e1\n")
    assert sweep.read_parameters(path) == {
        "lr": 1e-3, "steps": 20, "names": ["fog", 500.0], "empty": None, "low": -15.0, "name": "e1",
    }  # fmt: skip
    path.write_text("")
    assert sweep.read_parameters(path) == {}


@pytest.mark.parametrize("text", ["- 1", "just words", "a: [1", "1: 2", "!!python/name:os.system"])
def test_a_bad_parameter_file_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"bad\.yaml"):
        sweep.read_parameters(path)
    with pytest.raises(ValueError, match=r"no parameter file .*has bad\.yaml"):
        sweep.read_parameters(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("text", "value"),
    [("8", 8), ("1e-3", 1e-3), ("true", True), ("[a, 1]", ["a", 1]), ("zoom_blur", "zoom_blur")],
)
def test_command_line_values_are_yaml(text: str, value: Any) -> None:
    assert sweep.parse_value(text) == value
    for wrong, words in (("[" + text, "no YAML"), ("{a: 1, a: 2}", "'a' stands twice")):
        with pytest.raises(ValueError, match=words):
            sweep.parse_value(wrong)
