"""CIFAR-10-C and CIFAR-100-C as released."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import official
import pytest
import torch

from tttlib import data


@pytest.mark.parametrize(
    ("name", "folder", "n_classes"),
    [("cifar10-c", "CIFAR-10-C", 10), ("cifar100-c", "CIFAR-100-C", 100)],
)
@pytest.mark.parametrize(("severity", "inside"), [(1, False), (3, True), (5, False)])
def test_round_trip(
    tmp_path: Path, name: str, folder: str, n_classes: int, severity: int, inside: bool
) -> None:
    made, labels = official.write_cifar_c(tmp_path, folder, classes=n_classes)
    root = tmp_path / folder if inside else tmp_path
    for corruption, array in made.items():
        found = data.load(name, "test", root, corruption=corruption, severity=severity)
        expected = array[(severity - 1) * 4 : severity * 4]
        assert np.array_equal(found.images.permute(0, 2, 3, 1).numpy(), expected)
        assert found.labels.tolist() == labels.tolist() and len(found.classes) == n_classes
        assert found.images.shape == (4, 3, 32, 32) and found.ids.tolist() == [0, 1, 2, 3]


def test_it_is_a_view_and_the_file_stays(tmp_path: Path) -> None:
    made, _ = official.write_cifar_c(tmp_path)
    found = data.load("cifar10-c", "test", tmp_path, corruption="fog", severity=2)
    assert found.images.stride() == (3072, 1, 96, 3)
    found.images.zero_()
    assert np.array_equal(np.load(tmp_path / "CIFAR-10-C" / "fog.npy"), made["fog"])
    again = data.load("cifar10-c", "test", tmp_path, corruption="fog", severity=2)
    assert again.images.any()
    assert torch.equal(again.subset([3, 1]).images, again.images[[3, 1]])


def test_severity_5_is_the_default_and_fingerprints_differ(tmp_path: Path) -> None:
    official.write_cifar_c(tmp_path)
    kinds = [("fog", 5), ("fog", 4), ("saturate", 5)]
    sets = [data.load("cifar10-c", "test", tmp_path, corruption=c, severity=s) for c, s in kinds]
    assert len({one.fingerprint for one in sets}) == 3
    default = data.load("cifar10-c", "test", tmp_path, corruption="fog")
    assert default.fingerprint == sets[0].fingerprint
