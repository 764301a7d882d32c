"""Tiny-ImageNet in both layouts, written exactly as they are served, and the real files."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from official import ORDER, photos, write_tiny, write_tiny_hub
from PIL import Image

from tttlib import data
from tttlib.data import ImageSet, decoded, mapped
from tttlib.data.delivery import check


@pytest.fixture(autouse=True)
def tiny_cache(cache: Path) -> Path:
    """Where the decoded images go."""
    return cache / "tiny-imagenet"


def load(root: Path, split: str = "valid", name: str = "tiny-imagenet") -> ImageSet:
    return data.load(name, split, root)


def assert_same(a: ImageSet, b: ImageSet) -> None:
    assert a.boxes is not None and b.boxes is not None
    for column in ("images", "boxes", "labels", "ids"):
        assert torch.equal(getattr(a, column), getattr(b, column))
    assert a.classes == b.classes


@pytest.mark.parametrize("split", ["train", "valid"])
def test_both_layouts_give_the_same(tmp_path: Path, split: str) -> None:
    write_tiny_hub(tmp_path / "hub", split, photos())
    folder = write_tiny(tmp_path / "official", photos(), photos())
    hub, official = load(tmp_path / "hub", split), load(tmp_path / "official", split)
    assert_same(hub, official)
    assert_same(official, load(folder, split))
    assert (hub.name, hub.split, hub.image_size) == ("tiny-imagenet", split, 64)
    assert hub.labels.tolist() == [p.label for p in photos()] and hub.ids.tolist() == [*range(10)]
    assert hub.classes == ("goldfish", "cat", "lamp", "sofa", "cliff")
    assert hub.fingerprint != official.fingerprint


def test_pixels_and_boxes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tiny_hub(tmp_path, "valid", photos())
    monkeypatch.setenv("TTTLIB_DATA", str(tmp_path))
    found = data.load("tiny-imagenet", "val")
    assert found.boxes is not None and found.boxes.dtype == torch.float32
    for image, box, photo in zip(found.images, found.boxes, photos(), strict=True):
        expected = np.asarray(Image.open(io.BytesIO(photo.jpeg)).convert("RGB"))
        assert np.array_equal(image.permute(1, 2, 0).numpy(), expected)
        x1, y1, x2, y2 = photo.box
        assert box.tolist() == [x1, y1, x2 + 1, y2 + 1]
    assert (found.images[2] == found.images[2, :1]).all()  # grey
    assert (found.images[3] != found.images[3, :1]).any()


def test_labels_number_the_sorted_wnids(tmp_path: Path) -> None:
    """Whatever the order of wnids.txt, and whichever classes have images."""
    write_tiny(tmp_path, [p for p in photos() if p.label in (1, 4)], photos()[6:])
    train = load(tmp_path, "train")
    assert train.labels.tolist() == [1, 1, 4, 4] and train.classes[4] == "cliff"
    assert load(tmp_path).labels.tolist() == [3, 3, 4, 4]


def test_several_parquet_files_follow_each_other(tmp_path: Path) -> None:
    images = photos()
    for number, part in enumerate((images[:3], images[3:8], images[8:])):
        write_tiny_hub(tmp_path / "parts", f"train-{number}", part)
    write_tiny_hub(tmp_path / "one", "train", images)
    assert_same(load(tmp_path / "parts", "train"), load(tmp_path / "one", "train"))


def test_without_boxes_and_names(tmp_path: Path) -> None:
    write_tiny_hub(tmp_path, "valid", photos(), boxes=False)
    (tmp_path / "tiny-imagenet-classes.tsv").unlink()
    found = load(tmp_path)
    assert found.boxes is None and len(found.classes) == 200 and found.classes[3] == "class 3"


@pytest.mark.parametrize(("name", "stride"), [("tiny-imagenet-100", 2), ("tiny-imagenet-50", 4)])
def test_subsets_keep_every_so_many_classes(tmp_path: Path, name: str, stride: int) -> None:
    write_tiny_hub(tmp_path, "valid", photos())
    full, part = load(tmp_path), load(tmp_path, name=name)
    kept = [i for i, label in enumerate(full.labels.tolist()) if label % stride == 0]
    assert part.name == name and part.classes == full.classes[::stride]
    assert part.ids.tolist() == kept and torch.equal(part.images, full.images[kept])
    assert part.boxes is not None and full.boxes is not None
    assert torch.equal(part.boxes, full.boxes[kept])
    for new, old in zip(part.labels, full.labels[kept], strict=True):
        assert part.classes[new] == full.classes[old]
    assert part.fingerprint != full.fingerprint


# -- cache -----------------------------------------------------------------------------------------


def test_the_second_load_does_not_decode(
    tmp_path: Path, tiny_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tiny_hub(tmp_path, "valid", photos())
    first = load(tmp_path)
    assert [p.name for p in tiny_cache.iterdir()] == [f"valid-{first.fingerprint}"]

    def never(*args: object) -> bytes:
        raise AssertionError("decoded again")

    monkeypatch.setattr(decoded.Source, "decode", never)
    assert_same(load(tmp_path), first)
    load(tmp_path, name="tiny-imagenet-100")
    write_tiny_hub(tmp_path, "train", photos())
    with pytest.raises(AssertionError, match="decoded again"):
        load(tmp_path, "train")


def test_another_source_has_another_cache(tmp_path: Path) -> None:
    write_tiny_hub(tmp_path, "valid", photos())
    first = load(tmp_path)
    write_tiny_hub(tmp_path, "valid", photos(first=100))
    second = load(tmp_path)
    assert first.fingerprint != second.fingerprint
    assert not torch.equal(first.images, second.images)
    write_tiny_hub(tmp_path, "valid", photos())
    assert load(tmp_path).fingerprint == first.fingerprint
    listing = write_tiny(tmp_path / "official", [], photos()) / "val" / "val_annotations.txt"
    whole = load(tmp_path / "official")
    listing.write_text("".join(listing.read_text().splitlines(keepends=True)[:4]))
    assert (len(whole), len(load(tmp_path / "official"))) == (10, 4)


@pytest.mark.parametrize("split", ["train", "valid"])
def test_bytes_that_change_in_the_middle_of_an_image(tmp_path: Path, split: str) -> None:
    """Under the same lists, with the same size and time; a parquet file alike."""
    folder = write_tiny(tmp_path / "official", photos(), photos())
    train = f"train/{ORDER[1]}/images/{ORDER[1]}_1.JPEG"
    inside = folder / (train if split == "train" else "val/images/val_3.JPEG")
    hub = write_tiny_hub(tmp_path / "hub", split, photos())
    for path, root in ((inside, tmp_path / "official"), (hub, tmp_path / "hub")):
        before, stat = load(root, split), path.stat()
        raw = bytearray(path.read_bytes())
        place = raw.rindex(b"\xff\xda") + 40  # in the scan of the last image that it holds
        raw[place] ^= 1
        path.write_bytes(raw)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        after = load(root, split)
        assert after.fingerprint != before.fingerprint
        assert root.name == "hub" or not torch.equal(after.images, before.images)


def zeros(path: Path) -> None:
    size = path.stat().st_size
    path.unlink()
    path.write_bytes(bytes(size))


@pytest.mark.parametrize("file", ["images.u8", "columns.npz"])
@pytest.mark.parametrize("damage", [zeros, Path.unlink])
def test_a_damaged_copy_is_made_again(
    tmp_path: Path,
    tiny_cache: Path,
    file: str,
    damage: Callable[[Path], object],
    caplog: pytest.LogCaptureFixture,
) -> None:
    write_tiny_hub(tmp_path, "valid", photos())
    first = load(tmp_path)
    expected = first.images.clone()
    (folder,) = tiny_cache.iterdir()
    damage(folder / file)
    with caplog.at_level(logging.WARNING):
        again = load(tmp_path)
    assert torch.equal(again.images, expected) and again.fingerprint == first.fingerprint
    (said,) = [record.getMessage() for record in caplog.records]
    assert str(folder) in said and "decoded again" in said and "\n" not in said
    caplog.clear()
    load(tmp_path)
    assert not caplog.records


def test_a_check_reads_the_whole_copy(
    tmp_path: Path, tiny_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tiny_hub(tmp_path, "valid", photos())
    load(tmp_path)
    (folder,) = tiny_cache.iterdir()
    monkeypatch.setattr(mapped, "VERIFIED", 0)
    raw = bytearray((folder / "images.u8").read_bytes())
    raw[70_000] ^= 1
    (folder / "images.u8").write_bytes(raw)
    report = check.check("tiny-imagenet", tmp_path)
    assert not report.problems and not folder.exists()
    assert any("the decoded copy was damaged and is removed" in line for line in report.lines)


def test_an_interrupted_decoding_leaves_nothing(
    tmp_path: Path, tiny_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tiny_hub(tmp_path, "valid", photos())
    with monkeypatch.context() as patch:
        decode = decoded.Source.decode

        def interrupted(source: decoded.Source, file: bytes, where: str) -> bytes:
            if where.startswith("image 7 "):
                raise KeyboardInterrupt
            return decode(source, file, where)

        patch.setattr(decoded.Source, "decode", interrupted)
        with pytest.raises(KeyboardInterrupt):
            load(tmp_path)
    assert list(tiny_cache.iterdir()) == []
    assert len(load(tmp_path)) == 10


@pytest.mark.real_data
def test_real_valid_split(data_root: Path) -> None:
    found = data.load("tiny-imagenet", "valid", data_root)
    assert len(found) == 10_000 and len(found.classes) == 200
    assert found.labels.bincount().tolist() == [50] * 200
    assert found.classes[0] == "goldfish" and found.classes[4] == "American alligator"
    assert found.boxes is not None
    assert found.boxes[:, :2].min() >= 0 and found.boxes[:, 2:].max() <= 64
    size = found.boxes[:, 2:] - found.boxes[:, :2]
    assert (size.min(1).values <= 1).sum() == 41  # without area in the files' inclusive coordinates
    assert (size.prod(1) == 64 * 64).float().mean() == pytest.approx(0.057, abs=5e-4)
    grey = (found.images[:, 0] == found.images[:, 1]).flatten(1).all(1)
    assert 0 < grey.sum() < 1000
    assert found.images.float().std() > 50
    half = data.load("tiny-imagenet-100", "valid", data_root)
    assert len(half) == 5_000 and half.classes == found.classes[::2]
