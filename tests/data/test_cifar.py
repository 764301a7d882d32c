"""CIFAR-10 and CIFAR-100: pickles as Python 2 wrote them, the hub's JPEG copy, the -C arrays."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
import official
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from tttlib import data
from tttlib.data import cifar


def test_the_fixture_is_what_python_2_wrote(tmp_path: Path) -> None:
    official.write_cifar(tmp_path)
    content = (tmp_path / "cifar-10-batches-py" / "test_batch").read_bytes()
    assert content.startswith(b"\x80\x02}q")
    for part in (b"cnumpy.core.multiarray\n_reconstruct\n", b"U\x04data", b"cnumpy\ndtype\n"):
        assert part in content


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize(("classes", "third"), [(10, "cat"), (100, "bear")])
def test_round_trip(tmp_path: Path, split: str, classes: int, third: str) -> None:
    """CIFAR-100 with its fine labels; the root may be the folder itself."""
    made = official.write_cifar(tmp_path, classes)
    root = tmp_path / "cifar-100-python" if classes == 100 else tmp_path
    found = data.load(f"cifar{classes}", split, root)
    parts = [made[name] for name in sorted(made) if (split == "test") == ("test" in name)]
    expected = np.concatenate([images for images, _ in parts])
    assert len(found) == (15 if (split, classes) == ("train", 10) else 3)
    assert np.array_equal(found.images.permute(0, 2, 3, 1).numpy(), expected)
    assert found.labels.tolist() == [label for _, labels in parts for label in labels]
    assert found.labels.dtype == torch.int64 and found.classes[3] == third
    assert found.ids.tolist() == list(range(len(found))) and found.boxes is None


def test_class_names() -> None:
    names = cifar.CLASSES_100
    assert len(set(names)) == 100 and list(names) == sorted(names)
    digest = hashlib.sha256("\n".join(names).encode()).hexdigest()
    assert digest.startswith("fbe8ad23bbaf")


def test_fingerprint_follows_the_bytes(tmp_path: Path) -> None:
    official.write_cifar(tmp_path / "a")
    official.write_cifar(tmp_path / "b", n=4)
    sets = [data.load("cifar10", "test", tmp_path / x) for x in "ab"]
    sets.append(data.load("cifar10", "train", tmp_path / "a"))
    assert len({one.fingerprint for one in sets}) == 3


def test_jpeg_copy(tmp_path: Path) -> None:
    path = official.write_cifar_jpeg(tmp_path, "test", [3, 9, 0])
    found = data.load("cifar10-jpeg", "test", tmp_path)
    stored = pq.read_table(path)["img"][0].as_py()["bytes"]
    expected = np.asarray(Image.open(io.BytesIO(stored)))
    assert np.array_equal(found.images[0].movedim(0, -1).numpy(), expected)
    assert [found.classes[i] for i in found.labels] == ["cat", "truck", "airplane"]
    assert found.boxes is None and found.split == "test"


def test_the_real_jpeg_copy(data_root: Path) -> None:
    found = data.load("cifar10-jpeg", "test", data_root)
    assert len(found) == 10_000 and found.labels.bincount().tolist() == [1000] * 10


@pytest.mark.parametrize("classes", [10, 100])
@pytest.mark.parametrize(("severity", "inside"), [(1, False), (3, True), (5, False)])
def test_released_corruptions(tmp_path: Path, classes: int, severity: int, inside: bool) -> None:
    made, labels = official.write_cifar_c(tmp_path, classes)
    root = tmp_path / f"CIFAR-{classes}-C" if inside else tmp_path
    prints = set()
    for corruption, array in made.items():
        options = {"corruption": corruption} | ({} if severity == 5 else {"severity": severity})
        found = data.load(f"cifar{classes}-c", "test", root, **options)
        expected = array[(severity - 1) * 4 : severity * 4]
        assert np.array_equal(found.images.permute(0, 2, 3, 1).numpy(), expected)
        assert found.labels.tolist() == labels.tolist() and len(found.classes) == classes
        assert found.images.shape == (4, 3, 32, 32) and found.ids.tolist() == [0, 1, 2, 3]
        other = data.load(f"cifar{classes}-c", "test", root, corruption=corruption, severity=2)
        prints |= {found.fingerprint, other.fingerprint}
    assert len(prints) == 4


def test_released_arrays_are_viewed_and_stay(tmp_path: Path) -> None:
    made, _ = official.write_cifar_c(tmp_path)
    found = data.load("cifar10-c", "test", tmp_path, corruption="fog", severity=2)
    assert found.images.stride() == (3072, 1, 96, 3)
    found.images.zero_()
    assert np.array_equal(np.load(tmp_path / "CIFAR-10-C" / "fog.npy"), made["fog"])
    again = data.load("cifar10-c", "test", tmp_path, corruption="fog", severity=2)
    assert again.images.any()
    assert torch.equal(again.subset([3, 1]).images, again.images[[3, 1]])
