"""The commands `tttlib data …` (check and download: with their modules, in tests/data)."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import call

from tttlib.commands import catalogue
from tttlib.data import NAMES


def test_list_says_what_is_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "CIFAR-10-C").mkdir()
    (tmp_path / "tiny-imagenet-valid.parquet").touch()
    monkeypatch.setenv("TTTLIB_DATA", str(tmp_path))
    assert call("data", "list") == 0
    first, heading, *rows, last = capsys.readouterr().out.splitlines()
    assert first == f"data root: {tmp_path} ($TTTLIB_DATA)"
    assert heading.split()[:3] == ["name", "splits", "there"] and "-c need a corruption" in last
    assert tuple(row.split()[0] for row in rows) == NAMES
    at = heading.index("there")
    there = {row.split()[0] for row in rows if row[at:].startswith("yes")}
    assert there == {"cifar10-c", "tiny-imagenet", "tiny-imagenet-100", "tiny-imagenet-50"}
    assert rows[0][at:].startswith("built in") and max(map(len, rows)) < 150
    assert call("data", "list", "--data", str(tmp_path / "none")) == 0
    assert "yes" not in capsys.readouterr().out


def test_list_finds_a_root_that_is_the_dataset(tmp_path: Path) -> None:
    (tmp_path / "CIFAR-10-C").mkdir()
    entry = next(entry for entry in catalogue.ENTRIES if entry.name == "cifar10-c")
    assert catalogue.found(entry, tmp_path / "CIFAR-10-C") == tmp_path / "CIFAR-10-C"


def test_make_c_writes_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["data", "make-c", "scenes", "--out", str(tmp_path / "c"), "--images", "3"]
    assert call(*words, "--corruption", "contrast") == 0
    assert {path.name for path in (tmp_path / "c").iterdir()} == {
        "contrast.npy", "labels.npy", "made.json",
    }  # fmt: skip
    assert f"corrupted: {tmp_path / 'c'}" in capsys.readouterr().out
    assert call(*words, "--corruption", "rain") == 2
    assert "unknown corruption 'rain'" in capsys.readouterr().err


@pytest.mark.slow
def test_gallery(tmp_path: Path) -> None:
    assert call("data", "gallery", "--out", str(tmp_path)) == 0
    assert len(list(tmp_path.glob("corruptions_*.jpg"))) == 3
