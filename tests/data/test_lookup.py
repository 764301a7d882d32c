"""Where files are looked for, and what the system's refusals become."""

from __future__ import annotations

from pathlib import Path

import pytest

from tttlib.data import DamagedDataError, MissingDataError, imagenet_boxes
from tttlib.data.contents import fingerprint
from tttlib.data.lookup import find, listing


def test_find_takes_the_first_and_the_root_itself(tmp_path: Path) -> None:
    (tmp_path / "b" / "val").mkdir(parents=True)
    (tmp_path / "c").mkdir()
    assert find("toy", tmp_path, ["a", "c", "b/val"], "there") == tmp_path / "c"
    assert find("toy", tmp_path / "b" / "val", ["a", "b/val"], "there") == tmp_path / "b" / "val"
    with pytest.raises(MissingDataError) as caught:
        find("toy", tmp_path, ["a", "d"], "there")
    for said in (
        f"toy: looked for {tmp_path}/a or {tmp_path}/d",
        "Get it from there",
        "TTTLIB_DATA",
    ):
        assert said in str(caught.value)


def test_listing_is_sorted_and_without_hidden_ones(tmp_path: Path) -> None:
    for name in ("b", ".c", "a"):
        (tmp_path / name).mkdir()
    assert [entry.name for entry in listing(tmp_path)] == ["a", "b"]


def test_refused_by_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*words: object, **more: object) -> None:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "file").write_text("content")
    message = r"cannot be read \(Permission denied\); check its permissions and links"
    for what, named, use in (
        ("os.listdir", tmp_path, lambda: listing(tmp_path)),
        ("os.open", tmp_path / "file", lambda: fingerprint("key", [tmp_path / "file"], "fetch it")),
        ("pathlib.Path.is_dir", tmp_path / "a", lambda: find("toy", tmp_path, ["a"], "there")),
        ("pathlib.Path.is_dir", tmp_path, lambda: imagenet_boxes.find("imagenet", [tmp_path])),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(what, refuse)
            with pytest.raises(DamagedDataError, match=f"{named}.* {message}"):
                use()
