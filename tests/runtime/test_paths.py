"""Relative paths in parameters hold from any folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from tttlib.runtime import paths


def test_paths_are_meant_from_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mae.pth").touch()
    Path("head.pth").touch()
    changed = {
        "dataset": ("folder:photos", f"folder:{tmp_path}/photos"),
        "root": ("data", f"{tmp_path}/data"),
        "model": ("large:mae.pth+head.pth", f"large:{tmp_path}/mae.pth+{tmp_path}/head.pth"),
        "models": (["mae-scenes", "mae.pth"], ["mae-scenes", f"{tmp_path}/mae.pth"]),
    }
    given, wanted = ({name: pair[i] for name, pair in changed.items()} for i in (0, 1))
    assert paths.from_here(given) == wanted
    kept = {"dataset": "scenes", "root": "", "model": "large:elsewhere.pth", "head": "none.pth"}
    kept |= {"rotation_model": "", "severity": 5}
    assert paths.from_here(kept) == kept


def test_roots(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TTTLIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TTTLIB_DATA", str(tmp_path / "data"))
    assert paths.cache_root() == tmp_path / "cache"
    assert paths.data_root("/elsewhere") == Path("/elsewhere")
    assert paths.data_root(None) == tmp_path / "data"
    monkeypatch.delenv("TTTLIB_DATA")
    assert paths.data_root(None) == tmp_path / "cache" / "data"
