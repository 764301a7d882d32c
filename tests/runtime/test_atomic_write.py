from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tttlib.runtime.files import atomic_write, sha256, write


def test_texts_and_bytes_are_written_whole_and_hashed(tmp_path: Path) -> None:
    write(tmp_path / "new" / "a.txt", "ä\n")
    write(tmp_path / "b", b"\0")
    assert (tmp_path / "new" / "a.txt").read_bytes() == b"\xc3\xa4\n"
    expected = hashlib.sha256(b"\xc3\xa4\n\0").hexdigest()
    assert sha256(tmp_path / "new" / "a.txt", tmp_path / "b") == expected
    assert {path.name for path in tmp_path.iterdir()} == {"new", "b"}


def test_the_new_content_replaces_the_old(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")
    with atomic_write(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_content_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_write(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_two_writers_of_one_file_do_not_disturb_each_other(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with atomic_write(path) as first, atomic_write(path) as second:
        assert first != second
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first"  # the outer block ended last
    assert list(tmp_path.iterdir()) == [path]
