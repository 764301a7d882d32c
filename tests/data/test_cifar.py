"""CIFAR-10 and CIFAR-100 from pickles as Python 2 wrote them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import official
import pytest
import torch

from tttlib import data
from tttlib.data import DamagedDataError, cifar


def test_the_fixture_is_what_python_2_wrote(tmp_path: Path) -> None:
    official.write_cifar10(tmp_path)
    content = (tmp_path / "cifar-10-batches-py" / "test_batch").read_bytes()
    assert (
        content.startswith(b"\x80\x02}q") and b"cnumpy.core.multiarray\n_reconstruct\n" in content
    )
    assert b"U\x04data" in content and b"cnumpy\ndtype\n" in content


@pytest.mark.parametrize("split", ["train", "test"])
def test_cifar10(tmp_path: Path, split: str) -> None:
    made = official.write_cifar10(tmp_path)
    found = data.load("cifar10", split, tmp_path)
    parts = [made[name] for name in sorted(made) if (split == "test") == (name == "test_batch")]
    expected = np.concatenate([images for images, _ in parts])
    assert len(found) == (15 if split == "train" else 3)
    assert np.array_equal(found.images.permute(0, 2, 3, 1).numpy(), expected)
    assert found.labels.tolist() == [label for _, labels in parts for label in labels]
    assert found.labels.dtype == torch.int64 and found.classes[3] == "cat"
    assert found.ids.tolist() == list(range(len(found))) and found.boxes is None


@pytest.mark.parametrize("split", ["train", "test"])
def test_cifar100_has_fine_labels(tmp_path: Path, split: str) -> None:
    images, labels = official.write_cifar100(tmp_path)[split]
    found = data.load("cifar100", split, tmp_path / "cifar-100-python")  # the folder itself
    assert np.array_equal(found.images.permute(0, 2, 3, 1).numpy(), images)
    assert found.labels.tolist() == labels
    assert (found.classes[0], found.classes[99]) == ("apple", "worm")


def test_class_names() -> None:
    assert len(set(cifar.CLASSES_100)) == 100 and list(cifar.CLASSES_100) == sorted(
        cifar.CLASSES_100
    )
    digest = hashlib.sha256("\n".join(cifar.CLASSES_100).encode()).hexdigest()
    assert digest.startswith("fbe8ad23bbaf")


def test_other_classes_in_meta(tmp_path: Path) -> None:
    official.write_cifar10(tmp_path)
    names = [name.encode() for name in (*cifar.CLASSES_10[1:], "airplane")]
    meta = tmp_path / "cifar-10-batches-py" / "batches.meta"
    meta.write_bytes(official.python2({b"label_names": names}))
    with pytest.raises(
        DamagedDataError, match=r"batches.meta: label_names must be the 10 official"
    ):
        data.load("cifar10", "test", tmp_path)


def test_fingerprint_follows_the_bytes(tmp_path: Path) -> None:
    official.write_cifar10(tmp_path / "a")
    official.write_cifar10(tmp_path / "b", n=4)
    sets = [data.load("cifar10", "test", tmp_path / x) for x in "ab"]
    sets.append(data.load("cifar10", "train", tmp_path / "a"))
    assert len({one.fingerprint for one in sets}) == 3
