"""The commands `tttlib data …` (check and download: with their modules, in tests/data)."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import call

from tttlib.commands import catalogue
from tttlib.data import NAMES


def test_list_says_what_is_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "CIFAR-10-C").mkdir()
    (tmp_path / "tiny-imagenet-valid.parquet").touch()
    monkeypatch.setenv("TTTLIB_DATA", str(tmp_path))
    first, heading, *rows, last = call("data", "list").out.splitlines()
    assert first == f"data root: {tmp_path} ($TTTLIB_DATA)"
    assert heading.split()[:3] == ["name", "splits", "there"] and "-c need a corruption" in last
    assert tuple(row.split()[0] for row in rows) == NAMES
    at = heading.index("there")
    there = {row.split()[0] for row in rows if row[at:].startswith("yes")}
    assert there == {"cifar10-c", "tiny-imagenet", "tiny-imagenet-100", "tiny-imagenet-50"}
    assert rows[0][at:].startswith("built in") and max(map(len, rows)) < 150
    assert "yes" not in call("data", "list", "--data", tmp_path / "none").out


def test_list_finds_a_root_that_is_the_dataset(tmp_path: Path) -> None:
    (tmp_path / "CIFAR-10-C").mkdir()
    entry = next(entry for entry in catalogue.ENTRIES if entry.name == "cifar10-c")
    assert catalogue.found(entry, tmp_path / "CIFAR-10-C") == tmp_path / "CIFAR-10-C"


def test_make_c_writes_files(tmp_path: Path) -> None:
    words = ["data", "make-c", "scenes", "--out", tmp_path / "c", "--images", "3", "--corruption"]
    code, said, _ = call(*words, "contrast")
    assert code == 0 and f"corrupted: {tmp_path / 'c'}" in said
    names = {path.name for path in (tmp_path / "c").iterdir()}
    assert names == {"contrast.npy", "labels.npy", "made.json"}
    code, _, said = call(*words, "rain")
    assert code == 2 and "unknown corruption 'rain'" in said


@pytest.mark.slow
def test_gallery(tmp_path: Path) -> None:
    assert call("data", "gallery", "--out", tmp_path).code == 0
    assert len(list(tmp_path.glob("corruptions_*.jpg"))) == 3
