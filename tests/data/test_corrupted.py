"""The corrupted view of an image set and its files."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tttlib import data
from tttlib.corruptions import corrupt
from tttlib.data import ImageSet
from tttlib.data.delivery.make_c import make_c


@pytest.fixture(scope="module")
def clean() -> ImageSet:
    return data.load("scenes", "valid", n=40).subset(range(10, 40))


def test_view_is_lazy_and_equals_corrupt(clean: ImageSet, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = corrupt(clean.images, "fog", 3, ids=clean.ids, seed=2)
    view = clean.corrupted("fog", 3, seed=2)
    calls = []
    monkeypatch.setattr(
        "tttlib.corruptions.corrupt", lambda x, *a, **k: calls.append(len(x)) or corrupt(x, *a, **k)
    )
    part = view.subset([5, 3, 8]).sample(2)
    assert calls == []
    assert len(view) == 30 and view.image_size == 32 and view.images.shape == clean.images.shape
    assert torch.equal(view.images[4:6], expected[4:6])
    assert torch.equal(view.images[7], expected[7])
    assert torch.equal(part.images[:], expected[part.ids - 10])
    assert calls == [2, 1, 2]
    assert torch.equal(view.labels, clean.labels)


def test_fingerprint_follows_what_matters(clean: ImageSet) -> None:
    views = [clean.corrupted(name, level) for name, level in (("fog", 3), ("fog", 2), ("snow", 3))]
    views += [clean.corrupted("fog", 3, seed=1), clean.subset([0, 1]).corrupted("fog", 3), clean]
    assert len({view.fingerprint for view in views}) == len(views)
    assert clean.corrupted("fog", 3.0).fingerprint == views[0].fingerprint


def test_corrupting_twice(clean: ImageSet) -> None:
    twice = clean.corrupted("contrast", 2).corrupted("pixelate", 3)
    once = corrupt(clean.images, "contrast", 2, ids=clean.ids)
    assert torch.equal(twice.images[:], corrupt(once, "pixelate", 3, ids=clean.ids))


def test_cache_is_written_once_and_whole(
    clean: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = clean.corrupted("fog", 3, cache=tmp_path)
    assert torch.equal(first.images, corrupt(clean.images, "fog", 3, ids=clean.ids))
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 1 and files[0].stat().st_size == clean.images.numel() + 4  # a checksum
    with monkeypatch.context() as patch:
        patch.setattr("tttlib.data.corrupted.LazyImages.__getitem__", lambda self, i: self.ids[i])
        again = clean.corrupted("fog", 3, cache=tmp_path)
    assert torch.equal(again.images, first.images)
    expected = first.images.clone()
    files[0].unlink()
    files[0].write_bytes(b"short")
    assert torch.equal(clean.corrupted("fog", 3, cache=tmp_path).images, expected)


def test_failing_write_leaves_nothing(
    clean: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*words: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("tttlib.runtime.files.os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        clean.corrupted("fog", 3, cache=tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_two_may_write_at_the_same_time(clean: ImageSet, tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        made = list(pool.map(lambda _: clean.corrupted("fog", 3, cache=tmp_path), range(2)))
    assert torch.equal(made[0].images, made[1].images)
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 1


def test_unknown_names_are_told_at_once(clean: ImageSet) -> None:
    with pytest.raises(ValueError, match="unknown corruption 'rain'"):
        clean.corrupted("rain", 3)
    with pytest.raises(ValueError, match="severity must be"):
        clean.corrupted("fog", 6)


def test_make_c_npy(clean: ImageSet, tmp_path: Path) -> None:
    out = make_c(clean, tmp_path / "CIFAR-10-C", names=["fog", "contrast"])
    array, labels = np.load(out / "fog.npy"), np.load(out / "labels.npy")
    assert array.shape == (150, 32, 32, 3) and array.dtype == np.uint8 and labels.shape == (150,)
    expected = corrupt(clean.images, "fog", 4, ids=clean.ids)
    assert np.array_equal(array[90:120], expected.movedim(1, -1).numpy())
    assert np.array_equal(labels[90:120], clean.labels.numpy())
    found = data.load("cifar10-c", "test", tmp_path, corruption="fog", severity=4)
    assert torch.equal(found.images, expected) and torch.equal(found.labels, clean.labels)
    assert sorted(p.name for p in out.iterdir()) == [
        "contrast.npy", "fog.npy", "labels.npy", "made.json",
    ]  # fmt: skip


def test_make_c_resumes(clean: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, float]] = []

    def counting(x: torch.Tensor, name: str, severity: float, **rest: object) -> torch.Tensor:
        if len(x) > 1:
            calls.append((name, severity))
            if len(calls) == 7:
                raise KeyboardInterrupt
        return corrupt(x, name, severity, **rest)  # type: ignore[arg-type]

    monkeypatch.setattr("tttlib.corruptions.corrupt", counting)
    with pytest.raises(KeyboardInterrupt):
        make_c(clean, tmp_path, names=["fog", "contrast"])
    assert {p.name for p in tmp_path.iterdir()} == {"fog.npy", "labels.npy", "made.json"}
    for _ in range(2):
        make_c(clean, tmp_path, names=["fog", "contrast"])
        assert calls[7:] == [("contrast", severity) for severity in (1, 2, 3, 4, 5)]


def test_make_c_folders(clean: ImageSet, tmp_path: Path) -> None:
    make_c(clean, tmp_path, layout="folders", names=["fog"])
    files = sorted((tmp_path / "fog" / "2").rglob("*.JPEG"))
    assert len(files) == 30 and len(list(tmp_path.rglob("*.JPEG"))) == 150
    first = int(clean.ids[0])
    path = tmp_path / "fog" / "2" / clean.classes[clean.labels[0]] / f"{first}.JPEG"
    found = torch.from_numpy(np.array(Image.open(path))).movedim(-1, 0)
    wanted = corrupt(clean.images[:1], "fog", 2, ids=clean.ids[:1], jpeg85=True)[0]
    assert torch.equal(found, wanted)
    assert json.loads((tmp_path / "made.json").read_text())["layout"] == "folders"


def test_make_c_refuses(clean: ImageSet, tmp_path: Path) -> None:
    make_c(clean, tmp_path, names=["contrast"])
    with pytest.raises(ValueError, match="was made with another seed; choose another folder"):
        make_c(clean, tmp_path, names=["contrast"], seed=1)
    with pytest.raises(ValueError, match="unknown layout 'zip'; known are npy, folders"):
        make_c(clean, tmp_path, layout="zip")
    with pytest.raises(ValueError, match="unknown corruption 'rain'"):
        make_c(clean, tmp_path / "new", names=["rain"])
    assert not (tmp_path / "new").exists()
