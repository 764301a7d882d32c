"""Folders of one's own and parquet files with other column names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import official
import pytest
import torch
from PIL import Image

from tttlib import data, streams
from tttlib.corruptions import corrupt
from tttlib.data import DamagedDataError, MissingDataError


def test_folder(tmp_path: Path) -> None:
    made = [
        (official.write_jpeg(tmp_path / "mine" / kind / f"{i}.jpg", i, (20, 20)), label)
        for label, kind in enumerate(["ant", "bee", "cow 2.0"])
        for i in range(label + 1)
    ]
    (tmp_path / "mine" / "README.md").write_text("my photographs")
    (tmp_path / "mine" / ".hidden").mkdir()
    official.picture(9, (20, 20)).save(tmp_path / "mine" / "bee" / "z.PNG")
    made.insert(3, (tmp_path / "mine" / "bee" / "z.PNG", 1))
    found = data.folder(tmp_path / "mine")
    assert found.classes == ("ant", "bee", "cow 2.0") and found.name == "mine"
    assert found.labels.tolist() == [label for _, label in made] and found.image_size == 20
    for i, (path, _) in enumerate(made):
        assert np.array_equal(found.images[i].permute(1, 2, 0).numpy(), official.decoded(path))
    assert torch.equal(found.images[:], data.folder(tmp_path / "mine", size=20).images[:])
    resized = data.folder(str(tmp_path / "mine"), preprocess="resize256-bilinear")
    assert resized.image_size == 224 and resized.fingerprint != found.fingerprint


def test_a_folder_can_be_corrupted_and_streamed(tmp_path: Path) -> None:
    for i in range(3):
        official.write_jpeg(tmp_path / f"{i % 2}" / f"{i}.jpg", i, (32, 32))
    found = data.folder(tmp_path)
    expected = corrupt(found.images[:], "contrast", 4, ids=found.ids)
    assert torch.equal(found.corrupted("contrast", 4).images[:], expected)
    batches = list(streams.continual(found, ["clean", "contrast"], severity=4, batch_size=2))
    assert [batch.labels.tolist() for batch in batches] == [[0, 0], [1], [0, 0], [1]]
    assert torch.equal(batches[3].images, expected[2:].float() / 255)


def test_folder_refuses(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="is no folder; give one that has a sub-folder per"):
        data.folder(tmp_path / "none")
    wide = official.write_jpeg(tmp_path / "wide" / "a" / "1.jpg", 0, (30, 20))
    with pytest.raises(ValueError, match=f"{wide} is 30x20, not square; .*resize256-bicubic"):
        data.folder(tmp_path / "wide")
    with pytest.raises(ValueError, match="unknown preprocess 'zoom'; known are"):
        data.folder(tmp_path / "wide", preprocess="zoom")


@pytest.mark.parametrize("names", [None, ["no", "yes", "perhaps"]])
def test_parquet(tmp_path: Path, names: list[str] | None) -> None:
    parts = [tmp_path / "part-0.parquet", tmp_path / "part-1.parquet"]
    images = official.write_parquet(parts[0], [1, 0, 1], names)
    images += official.write_parquet(parts[1], [2, 0], names)
    found = data.parquet(parts, image="photo", label="kind", box="frame")
    assert np.array_equal(found.images.permute(0, 2, 3, 1).numpy(), np.stack(images))
    assert found.labels.tolist() == [1, 0, 1, 2, 0] and found.name == "part-0"
    assert found.classes == tuple(names or ["class 0", "class 1", "class 2"])
    assert found.boxes is not None and found.boxes[1].tolist() == [1, 2, 5, 16]
    one = data.parquet(str(parts[1]), image="photo", label="kind", size=16)
    assert one.boxes is None and len(one) == 2


def test_other_columns_are_not_taken_from_the_cache(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    official.write_parquet(path, [1, 0])
    with_boxes = data.parquet(path, image="photo", label="kind", box="frame")
    without = data.parquet(path, image="photo", label="kind")
    assert with_boxes.boxes is not None and without.boxes is None


def test_parquet_refuses(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    with pytest.raises(MissingDataError, match=f"no parquet file at {path}; give the paths"):
        data.parquet([path])
    with pytest.raises(MissingDataError, match=r"no parquet file at \(none given\)"):
        data.parquet([])
    official.write_parquet(path, [])
    with pytest.raises(DamagedDataError, match=f"{path} has no rows"):
        data.parquet(path, image="photo", label="kind")
    official.write_parquet(path, [0, -1])
    with pytest.raises(DamagedDataError, match="labels must lie in"):
        data.parquet(path, image="photo", label="kind")
    official.write_parquet(path, [0, 1])
    with pytest.raises(DamagedDataError, match="is 16x16, not 8x8"):
        data.parquet(path, image="photo", label="kind", size=8)


def test_a_folder_by_name_with_splits_and_an_order_of_classes(tmp_path: Path) -> None:
    for split in ("test", "valid"):
        for name, level in (("cat", 10), ("ant", 200)):
            target = tmp_path / "mine" / split / name
            target.mkdir(parents=True)
            Image.new("RGB", (8, 8), (level, level, level)).save(target / "1.png")
    (tmp_path / "mine" / "classes.txt").write_text("cat\nant\n")
    test = data.load(f"folder:{tmp_path / 'mine'}", "test")
    assert (test.name, test.split, tuple(test.classes)) == ("mine", "test", ("cat", "ant"))
    assert test.images[:][:, 0, 0, 0].tolist() == [10, 200] and test.labels.tolist() == [0, 1]
    valid = data.load(f"folder:{tmp_path / 'mine'}", "val")
    assert valid.split == "valid" and tuple(valid.classes) == ("cat", "ant")
    whole = data.load(f"folder:{tmp_path / 'mine' / 'test'}", "test")
    assert whole.name == "test" and tuple(whole.classes) == ("ant", "cat")
    with pytest.raises(ValueError, match="unknown split 'all'"):
        data.load(f"folder:{tmp_path}", "all")
