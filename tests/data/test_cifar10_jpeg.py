"""The hub's parquet layout under other column names: CIFAR-10 as JPEG."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import official
import pyarrow.parquet as pq
from PIL import Image

from tttlib import data


def test_round_trip(tmp_path: Path) -> None:
    path = official.write_cifar_jpeg(tmp_path, "test", [3, 9, 0])
    found = data.load("cifar10-jpeg", "test", tmp_path)
    stored = pq.read_table(path)["img"][0].as_py()["bytes"]
    expected = np.asarray(Image.open(io.BytesIO(stored)))
    assert np.array_equal(found.images[0].movedim(0, -1).numpy(), expected)
    assert [found.classes[i] for i in found.labels] == ["cat", "truck", "airplane"]
    assert found.boxes is None and found.split == "test"


def test_the_real_files(data_root: Path) -> None:
    found = data.load("cifar10-jpeg", "test", data_root)
    assert len(found) == 10_000 and found.labels.bincount().tolist() == [1000] * 10
