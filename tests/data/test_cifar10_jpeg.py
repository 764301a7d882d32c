"""The hub's parquet layout under other column names: CIFAR-10 as JPEG."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tttlib import data
from tttlib.data import DamagedDataError, MissingDataError


def write(
    root: Path,
    split: str,
    labels: list[int],
    *,
    side: int = 32,
    column: str = "img",
    kind: str = "JPEG",
) -> Path:
    random, rows = np.random.default_rng(0), []
    for _ in labels:
        file = io.BytesIO()
        Image.fromarray(random.integers(0, 256, (side, side, 3), np.uint8)).save(file, kind)
        rows.append({"bytes": file.getvalue(), "path": ""})
    path = root / f"cifar10-jpeg-{split}.parquet"
    pq.write_table(pa.table({column: rows, "label": labels}), path)
    return path


def test_round_trip(tmp_path: Path) -> None:
    write(tmp_path, "test", [3, 9, 0])
    found = data.load("cifar10-jpeg", "test", tmp_path)
    stored = pq.read_table(tmp_path / "cifar10-jpeg-test.parquet")["img"][0].as_py()["bytes"]
    expected = np.asarray(Image.open(io.BytesIO(stored)))
    assert np.array_equal(found.images[0].movedim(0, -1).numpy(), expected)
    assert [found.classes[i] for i in found.labels] == ["cat", "truck", "airplane"]
    assert found.boxes is None and found.split == "test"


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match=r"no cifar10-jpeg-train\*.parquet"):
        data.load("cifar10-jpeg", "train", tmp_path)
    with pytest.raises(ValueError, match=r"unknown split .valid. .*it has train, test"):
        data.load("cifar10-jpeg", "valid", tmp_path)
    path = write(tmp_path, "test", [1, 10])
    with pytest.raises(DamagedDataError, match=f"{path}: labels must lie in 0..9"):
        data.load("cifar10-jpeg", "test", tmp_path)
    write(tmp_path, "test", [1], side=28)
    with pytest.raises(DamagedDataError, match="is 28x28, not 32x32"):
        data.load("cifar10-jpeg", "test", tmp_path)
    write(tmp_path, "test", [1], column="image")
    with pytest.raises(DamagedDataError, match="no columns 'img' and 'label'"):
        data.load("cifar10-jpeg", "test", tmp_path)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "BMP"])
def test_lossless_images_are_another_dataset(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path, "test", [3, 9, 0], kind=kind)
    with pytest.raises(DamagedDataError, match=f"image 0 of {path} .*JPEG.*the set cifar10"):
        data.load("cifar10-jpeg", "test", tmp_path)


def test_the_real_files(data_root: Path) -> None:
    found = data.load("cifar10-jpeg", "test", data_root)
    assert len(found) == 10_000 and found.labels.bincount().tolist() == [1000] * 10
