"""YAML that would be changed in silence, or grow without bounds, is refused by name."""

from __future__ import annotations

from pathlib import Path

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
        ("a: " + "[" * 5000, "nested too deeply"),
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


def test_values_of_the_command_line_too() -> None:
    with pytest.raises(ValueError, match="'a' stands twice"):
        sweep.parse_value("{a: 1, a: 2}")
