"""CIFAR-10 and CIFAR-100 from pickles as Python 2 wrote them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import official
import pytest
import torch

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
