"""What a unit uses is told from its parameters, and a change of it is seen."""

from __future__ import annotations

from pathlib import Path

import pytest

from tttlib.models import zoo
from tttlib.sweep import fingerprints


def test_bundled_weights_carry_the_hash_of_their_card() -> None:
    found = fingerprints.uses({"models": ["mae-scenes", "wrn-scenes"], "rotation_model": ""})
    assert found == {
        f"weights {name}": zoo.load(name).card["weights_sha256"]
        for name in ("mae-scenes", "wrn-scenes")
    }


def test_files_of_weights_are_looked_at_again_when_they_change(tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    path.write_bytes(b"one")
    before = fingerprints.uses({"model": str(path)})
    path.write_bytes(b"three")
    after = fingerprints.uses({"model": str(path)})
    assert list(before) == list(after) == ["weights mine"]
    assert "weights mine (fingerprint" in fingerprints.difference(before, after)
    assert fingerprints.difference(before, before) == ""
    assert fingerprints.difference(before, {"weights other": "1"}) == ""


def test_every_split_of_a_dataset_is_used_once() -> None:
    given = {"dataset": "scenes", "split": "test", "tuning_split": "valid", "source_split": ""}
    given |= {"options": {"n": 20}, "n_images": 20}
    found = fingerprints.uses(given)
    assert list(found) == ['data scenes test {"n": 20}', 'data scenes valid {"n": 20}']
    assert len(set(found.values())) == 2
    with pytest.raises(ValueError, match="n_images is 21, but 'scenes' split 'test' has 20"):
        fingerprints.uses({**given, "n_images": 21})
    assert fingerprints.signature(given) != fingerprints.signature({**given, "split": "valid"})
    assert fingerprints.signature(given) == fingerprints.signature({**given, "seed": 3})


def test_unknown_weights_and_missing_data_are_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no weights 'mae-scene': no.*mae-scenes"):
        fingerprints.uses({"model": "mae-scene"})
    with pytest.raises(FileNotFoundError, match="cifar10"):
        fingerprints.uses({"dataset": "cifar10", "split": "test", "root": str(tmp_path)})
    with pytest.raises(ValueError, match="unknown dataset 'cifar'"):
        fingerprints.uses({"dataset": "cifar", "split": "test"})


def test_released_checkpoints_count_by_their_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TTTLIB_DATA", str(tmp_path))
    (tmp_path / "mae.pth").write_bytes(b"a")
    both = []
    for content in (b"b", b"cc"):
        (tmp_path / "head.pth").write_bytes(content)
        both.append(fingerprints.uses({"model": f"large:mae.pth+{tmp_path / 'head.pth'}"}))
    found, again = both
    assert set(found) == {"weights mae", "weights head"}
    assert again["weights mae"] == found["weights mae"]
    assert again["weights head"] != found["weights head"]
