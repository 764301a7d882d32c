"""Fingerprints follow every byte, and files that did not change are not read twice."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tttlib.data import DamagedDataError, contents
from tttlib.data.contents import fingerprint


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """A file of 3 MB and a small one, both of them an hour old."""
    (tmp_path / "set" / "a").mkdir(parents=True)
    paths = [tmp_path / "set" / "a" / "large", tmp_path / "set" / "small"]
    paths[0].write_bytes(os.urandom(3 << 20))
    paths[1].write_bytes(b"small")
    return paths


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were read; changes made before now count as old ones."""
    read: list[str] = []
    sum_of = contents._sum
    monkeypatch.setattr(contents, "_sum", lambda *file: read.append(file[0]) or sum_of(*file))
    monkeypatch.setattr(contents, "_JUST_NOW", -3600e9)
    return read


def flip(path: Path, at: int) -> None:
    """Change one byte in place and give the file its old times."""
    before, raw = path.stat(), bytearray(path.read_bytes())
    raw[at] ^= 1
    path.write_bytes(raw)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_every_byte_name_and_key_counts(files: list[Path], tmp_path: Path) -> None:
    made = [fingerprint("key", files, "")]
    for at in (0, 1 << 20, (3 << 20) - 1):
        flip(files[0], at)
        made.append(fingerprint("key", files, ""))
    made += [fingerprint("other", files, ""), fingerprint("key", files[::-1], "")]
    files[1].rename(files[1].with_name("renamed"))
    made.append(fingerprint("key", [files[0], files[1].with_name("renamed")], ""))
    assert len(set(made)) == len(made) and all(len(one) == 16 for one in made)


def test_another_place_is_the_same_set(files: list[Path], tmp_path: Path) -> None:
    before = fingerprint("key", files, "")
    (tmp_path / "set").rename(tmp_path / "moved")
    moved = [tmp_path / "moved" / path.relative_to(tmp_path / "set") for path in files]
    assert fingerprint("key", moved, "") == before


def test_unchanged_files_are_read_once(files: list[Path], reads: list[str]) -> None:
    first = fingerprint("key", files, "")
    assert len(reads) == 2
    assert fingerprint("key", files, "") == first and len(reads) == 2
    assert fingerprint("another key", files, "") != first and len(reads) == 2
    time.sleep(0.02)  # a tick of the file system's clock
    flip(files[0], 2 << 20)
    assert fingerprint("key", files, "") != first and len(reads) == 4


@pytest.mark.parametrize("why", ["they just changed", "the cache cannot be written"])
def test_what_is_not_remembered_is_read_again(
    files: list[Path], reads: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    if why == "they just changed":
        monkeypatch.setattr(contents, "_JUST_NOW", 3e9)
    else:
        monkeypatch.setenv("TTTLIB_CACHE", str(files[1]))
    assert fingerprint("key", files, "") == fingerprint("key", files, "") and len(reads) == 4


@pytest.mark.parametrize("content", [b"", bytes(64), b"half a di"])
def test_a_damaged_memory_is_not_believed(
    files: list[Path], reads: list[str], cache: Path, content: bytes
) -> None:
    first = fingerprint("key", files, "")
    (record,) = (cache / "fingerprints").iterdir()
    record.write_bytes(content)
    assert fingerprint("key", files, "") == first and len(reads) == 4
    assert len(record.read_text()) == 64


def test_a_change_behind_the_systems_back_is_found_on_rereading(
    files: list[Path], reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = fingerprint("key", files, "")
    states = {str(path): contents._state(str(path), "") for path in files}
    flip(files[0], 1 << 20)
    monkeypatch.setattr(contents, "_state", lambda path, remedy: states[path])
    assert fingerprint("key", files, "") == first
    with pytest.raises(DamagedDataError, match=r"the content of a file changed, .*; fetch it"):
        fingerprint("key", files, "fetch it", reread=True)
    assert fingerprint("key", files, "", reread=True) != first


def test_missing_and_empty_files(tmp_path: Path) -> None:
    with pytest.raises(DamagedDataError, match="none is missing; fetch it"):
        fingerprint("key", [tmp_path / "none"], "fetch it")
    (tmp_path / "empty").touch()
    with pytest.raises(DamagedDataError, match=r"empty is empty \(0 bytes\); fetch it"):
        fingerprint("key", [tmp_path / "empty"], "fetch it")
    assert fingerprint("key", [tmp_path / "empty"], "", allow_empty=True)
