"""Folders of one's own and parquet files with other column names."""

from __future__ import annotations

import logging
import unicodedata
from pathlib import Path

import numpy as np
import official
import pytest
import torch
from PIL import Image

from tttlib import data, streams
from tttlib.corruptions import corrupt
from tttlib.data import DamagedDataError, MissingDataError, imagenet


def test_folder(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    made = [
        (official.write_jpeg(mine / kind / f"{i}.jpg", i, (20, 20)), label)
        for label, kind in enumerate(["ant", "bee", "cow 2.0"])
        for i in range(label + 1)
    ]
    (mine / "README.md").write_text("my photographs")
    (mine / ".hidden").mkdir()
    official.picture(9, (20, 20)).save(mine / "bee" / "z.PNG")
    made.insert(3, (mine / "bee" / "z.PNG", 1))
    found = data.folder(mine)
    assert found.classes == ("ant", "bee", "cow 2.0") and found.name == "mine"
    assert found.labels.tolist() == [label for _, label in made] and found.image_size == 20
    for i, (path, _) in enumerate(made):
        assert np.array_equal(found.images[i].permute(1, 2, 0).numpy(), official.decoded(path))
    assert torch.equal(found.images[:], data.folder(mine, size=20).images[:])
    resized = data.folder(str(mine), preprocess="resize256-bilinear")
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
    assert data.parquet(parts[1], image="photo", label="kind", box="frame").boxes is not None
    official.write_parquet(parts[0], [1, 2, 3])
    listed = data.parquet(parts[0], image="photo", label="kind", classes=["a", "b", "c", "d"])
    assert listed.labels.tolist() == [1, 2, 3] and listed.classes == ("a", "b", "c", "d")


def write_classes(root: Path, *names: str) -> Path:
    """One image in each class folder; its grey level is 10 times the name's position + 1."""
    for i, name in enumerate(names):
        (root / name).mkdir(parents=True)
        Image.new("RGB", (8, 8), (10 * (i + 1),) * 3).save(root / name / "1.png")
    return root


def test_a_folder_by_name_with_splits_and_an_order_of_classes(tmp_path: Path) -> None:
    for split in ("test", "valid"):
        write_classes(tmp_path / "mine" / split, "cat", "ant")
    (tmp_path / "mine" / "classes.txt").write_text("cat\nant\n")
    test = data.load(f"folder:{tmp_path / 'mine'}", "test")
    assert (test.name, test.split, test.classes) == ("mine", "test", ("cat", "ant"))
    assert test.images[:][:, 0, 0, 0].tolist() == [10, 20] and test.labels.tolist() == [0, 1]
    valid = data.load(f"folder:{tmp_path / 'mine'}", "val")
    assert valid.split == "valid" and valid.classes == ("cat", "ant")
    whole = data.load(f"folder:{tmp_path / 'mine' / 'test'}", "test")
    assert whole.name == "test" and whole.classes == ("ant", "cat")
    with pytest.raises(ValueError, match="unknown split 'all'"):
        data.load(f"folder:{tmp_path}", "all")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([str(i) for i in range(12)], [str(i) for i in range(12)]),
        (["1", "2", "10", *map(str, range(3, 10))], [str(i) for i in range(1, 11)]),
        (["class 10", "class 2", "class 1"], ["class 1", "class 2", "class 10"]),
        (["007", "010", "008", "009"], ["007", "008", "009", "010"]),
        (["n02", "n10", "n01"], ["n01", "n02", "n10"]),
        (["DC-10", "DC-3", "Boeing 707"], ["Boeing 707", "DC-10", "DC-3"]),
        (["7"], ["7"]),
    ],
)
def test_numbers_are_sorted_as_numbers(
    tmp_path: Path, names: list[str], expected: list[str]
) -> None:
    images = data.folder(write_classes(tmp_path / "mine", *names))
    assert list(images.classes) == expected
    for image, label in zip(images.images[:], images.labels.tolist(), strict=True):
        assert names[int(image[0, 0, 0]) // 10 - 1] == expected[label]


@pytest.mark.parametrize("names", [["0", "1", "10", "100"], ["2", "4"], ["000", "002"]])
def test_numbers_with_gaps_need_a_list(tmp_path: Path, names: list[str]) -> None:
    path = write_classes(tmp_path / "mine", *names)
    with pytest.raises(ValueError, match=r"numbers with gaps, .* write a file classes\.txt"):
        data.folder(path)
    (path / "classes.txt").write_text("\n".join(names[::-1]))
    assert list(data.folder(path).classes) == names[::-1]
    assert list(data.folder(path, classes=names).classes) == names


def test_one_list_of_classes_over_the_splits(tmp_path: Path) -> None:
    write_classes(tmp_path / "mine" / "train", "ant", "bee", "cow")
    write_classes(tmp_path / "mine" / "test", "bee", "cow")
    write_classes(tmp_path / "mine" / "val", "cow", "dog")
    for path, split in (("", "test"), ("", "val"), ("", "train"), ("/test", "test")):
        images = data.load(f"folder:{tmp_path}/mine{path}", split)
        assert images.classes == ("ant", "bee", "cow", "dog"), (path, split)
    assert data.load(f"folder:{tmp_path}/mine", "test").labels.tolist() == [1, 2]
    assert data.folder(tmp_path / "mine" / "val").labels.tolist() == [2, 3]


@pytest.mark.parametrize("name", ["val", "valid", "validation", "Val"])
def test_splits_are_never_classes(tmp_path: Path, name: str) -> None:
    write_classes(tmp_path / "mine" / "train", "ant", "bee")
    write_classes(tmp_path / "mine" / name, "ant")
    for split in ("val", "valid"):
        images = data.load(f"folder:{tmp_path / 'mine'}", split)
        assert (images.split, len(images), images.classes) == ("valid", 1, ("ant", "bee"))
    with pytest.raises(MissingDataError, match=r"has the splits .*, but no test; choose"):
        data.load(f"folder:{tmp_path / 'mine'}", "test")
    with pytest.raises(ValueError, match=r"holds the splits .*, not classes"):
        data.folder(tmp_path / "mine")
    vehicles = write_classes(tmp_path / "vehicles", "bus", "train")
    assert data.load(f"folder:{vehicles}", "test").classes == ("bus", "train")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lists_from_other_systems(tmp_path: Path, encoding: str, end: str) -> None:
    names = ["zèbre", "âne", "chat"]
    decomposed = [unicodedata.normalize("NFD", name) for name in names]
    path = write_classes(tmp_path / "mine", *decomposed)
    (path / "classes.txt").write_bytes(end.join([*names, ""]).encode(encoding))
    images = data.folder(path)
    assert list(images.classes) == names and images.labels.tolist() == [0, 1, 2]


def test_a_class_has_one_place(tmp_path: Path) -> None:
    path = write_classes(tmp_path / "mine", "ant", "bee")
    (path / "classes.txt").write_text("ant\nbee\nant\n")
    with pytest.raises(ValueError, match=r"classes\.txt names 'ant' twice"):
        data.folder(path)


def test_every_picture_is_served_or_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    grey = Image.new("RGB", (8, 8), (90,) * 3)
    (tmp_path / "ant" / "2021").mkdir(parents=True)
    (tmp_path / "bee").mkdir()
    for name in ("a.JFIF", "a.gif", "a.bmp", "2021/a.webp", "2021/a.tif"):
        grey.save(tmp_path / "ant" / name, "JPEG" if name == "a.JFIF" else None)
    grey.save(tmp_path / "bee" / "a.ppm")
    for name in ("ant/b.heic", "ant/2021/c.heic", "bee/d.mov", "loose.png"):
        (tmp_path / name).write_bytes(b"not looked into")
    for name in ("classes.csv", "bee/notes.txt", "bee/.DS_Store"):
        (tmp_path / name).write_text("no picture")
    with caplog.at_level(logging.WARNING):
        images = data.folder(tmp_path)
    assert len(images) == 6 and images.labels.tolist() == [0] * 5 + [1]
    assert (images.images[:].float() - 90).abs().max() <= 3
    (line,) = [r.getMessage() for r in caplog.records]
    for part in (str(tmp_path), "2 .heic", "1 .mov", "1 .png"):
        assert part in line
    assert ".txt" not in line and ".csv" not in line


def test_photographs_of_all_sizes(tmp_path: Path) -> None:
    for i, size in enumerate([(300, 280), (280, 400), (256, 256)]):
        official.write_jpeg(tmp_path / "mine" / "ab"[i % 2] / f"{i}.jpg", i, size)
    name = f"folder:{tmp_path / 'mine'}"
    for nothing in ({}, {"preprocess": ""}, {"preprocess": None}):
        with pytest.raises(ValueError, match="-p preprocess resize256-bicubic"):
            data.load(name, "test", **nothing)
    images = data.load(name, "test", preprocess="resize256-bicubic")
    assert images.images[:].shape == (3, 3, 224, 224)
    assert len(data.load("scenes", "test", n=2, preprocess="")) == 2
    with pytest.raises(ValueError, match="scenes has no option 'preprocess'"):
        data.load("scenes", "test", preprocess="resize256-bicubic")
    with pytest.raises(ValueError, match="has no option 'sizes'; it has classes, size, preprocess"):
        data.load(name, "test", sizes=3)


def test_photographs_are_upright_and_published_images_as_published(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    lying = Image.fromarray(np.tile(np.repeat([0, 255], 112).astype(np.uint8), (224, 1)))
    for folder in (tmp_path / "mine" / "cat", tmp_path / "val" / imagenet.wnids()[3]):
        folder.mkdir(parents=True)
        lying.convert("RGB").save(folder / official.val_name(1), "JPEG", exif=exif, quality=95)
    mine = data.folder(tmp_path / "mine").images[0].float()
    assert mine[:, :112].mean() < 5 and mine[:, 112:].mean() > 250
    published = data.load("imagenet", "valid", tmp_path).images[0].float()
    assert published[:, :, :100].mean() < 5 and published[:, :, 124:].mean() > 250


@pytest.mark.parametrize("change", ["middle", "renamed class", "another order"])
def test_the_fingerprint_covers_what_is_served(tmp_path: Path, change: str) -> None:
    path = write_classes(tmp_path / "mine", "ant", "bee")
    before = data.folder(path)
    assert data.folder(path).fingerprint == before.fingerprint
    if change == "middle":
        file = path / "ant" / "1.png"
        raw = bytearray(file.read_bytes())
        raw[len(raw) // 2] ^= 1
        file.write_bytes(raw)
        with pytest.raises(DamagedDataError):  # a PNG notices
            data.folder(path).images[:]
        Image.new("RGB", (8, 8), (11,) * 3).save(file)
    elif change == "renamed class":
        (path / "bee").rename(path / "fly")
    else:
        (path / "classes.txt").write_text("bee\nant\n")
    assert data.folder(path).fingerprint != before.fingerprint
