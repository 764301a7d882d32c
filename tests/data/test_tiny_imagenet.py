"""Tiny-ImageNet in both layouts, written here exactly as they are served, and the real files."""

from __future__ import annotations

import io
import logging
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from tttlib import data
from tttlib.data import DamagedDataError, ImageSet, MissingDataError, decoded, mapped
from tttlib.data.delivery import check

# Sorted, they are the classes 0 … 4; the official list has another order.
WNIDS = ("n03000001", "n01000002", "n02000003", "n09000004", "n04000005")
WORDS = {
    "n01000002": "goldfish, Carassius auratus",
    "n02000003": "cat",
    "n03000001": "lamp",
    "n04000005": "sofa, couch",
    "n09000004": "cliff",
    "n10000000": "a class of ImageNet that Tiny-ImageNet lacks",
}
ORDER = sorted(WNIDS)


@dataclass(frozen=True)
class Photo:
    jpeg: bytes
    label: int  # among the sorted wnids
    box: tuple[int, int, int, int]  # inclusive maxima


def jpeg(seed: int, mode: str = "RGB", size: tuple[int, int] = (64, 64)) -> bytes:
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (8, 8) if mode == "L" else (8, 8, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(coarse).resize(size).save(stream, "JPEG", quality=90)
    return stream.getvalue()


def photos(n: int = 10, first: int = 0) -> list[Photo]:
    """Sorted by class, two of each; the third is grey, the second one's box has no area."""
    made = []
    for i in range(n):
        box = (i, 2 * i, i if i == 1 else 40 + i, 63)
        made.append(Photo(jpeg(first + i, "L" if i == 2 else "RGB"), i * 5 // n, box))
    return made


def write_parquet(root: Path, split: str, images: list[Photo], *, boxes: bool = True) -> Path:
    columns = {
        "image": pa.array(
            [{"bytes": p.jpeg, "path": f"{i}.JPEG"} for i, p in enumerate(images)],
            pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
        ),
        "label": pa.array([p.label for p in images], pa.int64()),
    }
    if boxes:
        columns["bbox"] = pa.array([p.box for p in images], pa.list_(pa.int16(), 4))
    root.mkdir(parents=True, exist_ok=True)
    path = root / f"tiny-imagenet-{split}.parquet"
    pq.write_table(pa.table(columns), path, compression="zstd", row_group_size=4)
    lines = [f"{i}\t{wnid}\t{WORDS[wnid]}" for i, wnid in enumerate(ORDER)]  # no header
    (root / "tiny-imagenet-classes.tsv").write_text("\n".join([*lines, ""]))
    return path


def write_official(root: Path, train: list[Photo], valid: list[Photo]) -> Path:
    folder = root / "tiny-imagenet-200"
    (folder / "val" / "images").mkdir(parents=True)
    (folder / "wnids.txt").write_text("\n".join(WNIDS) + "\n")
    (folder / "words.txt").write_text("".join(f"{k}\t{v}\n" for k, v in WORDS.items()))
    for label, wnid in enumerate(ORDER):
        images = folder / "train" / wnid / "images"
        images.mkdir(parents=True)
        lines = []
        for i, photo in enumerate(p for p in train if p.label == label):
            name = f"{wnid}_{i}.JPEG"
            (images / name).write_bytes(photo.jpeg)
            lines.append("\t".join([name, *map(str, photo.box)]))
        (folder / "train" / wnid / f"{wnid}_boxes.txt").write_text("\n".join([*lines, ""]))
    lines = []
    for i, photo in enumerate(valid):
        (folder / "val" / "images" / f"val_{i}.JPEG").write_bytes(photo.jpeg)
        lines.append("\t".join([f"val_{i}.JPEG", ORDER[photo.label], *map(str, photo.box)]))
    (folder / "val" / "val_annotations.txt").write_text("\n".join([*lines, ""]))
    return folder


@pytest.fixture(autouse=True)
def tiny_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the decoded images go."""
    monkeypatch.delenv("TTTLIB_DATA", raising=False)
    return cache / "tiny-imagenet"


def assert_same(a: ImageSet, b: ImageSet) -> None:
    assert a.boxes is not None and b.boxes is not None
    assert torch.equal(a.images, b.images) and torch.equal(a.boxes, b.boxes)
    assert torch.equal(a.labels, b.labels) and torch.equal(a.ids, b.ids)
    assert a.classes == b.classes


# -- what is read ----------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["train", "valid"])
def test_both_layouts_give_the_same(tmp_path: Path, split: str) -> None:
    images = photos()
    write_parquet(tmp_path / "hub", split, images)
    write_official(tmp_path / "official", photos(), photos())
    hub = data.load("tiny-imagenet", split, tmp_path / "hub")
    official = data.load("tiny-imagenet", split, tmp_path / "official")
    assert_same(hub, official)
    assert_same(
        official, data.load("tiny-imagenet", split, tmp_path / "official/tiny-imagenet-200")
    )
    assert (hub.name, hub.split, hub.image_size) == ("tiny-imagenet", split, 64)
    assert hub.labels.tolist() == [p.label for p in images] and hub.ids.tolist() == [*range(10)]
    assert hub.classes == ("goldfish", "cat", "lamp", "sofa", "cliff")
    assert hub.fingerprint != official.fingerprint


def test_pixels_and_boxes(tmp_path: Path) -> None:
    images = photos()
    write_parquet(tmp_path, "valid", images)
    found = data.load("tiny-imagenet", "val", tmp_path)
    assert found.boxes is not None and found.boxes.dtype == torch.float32
    for i, photo in enumerate(images):
        expected = np.asarray(Image.open(io.BytesIO(photo.jpeg)).convert("RGB"))
        assert np.array_equal(found.images[i].permute(1, 2, 0).numpy(), expected)
        x1, y1, x2, y2 = photo.box
        assert found.boxes[i].tolist() == [x1, y1, x2 + 1, y2 + 1]
    assert (found.images[2] == found.images[2, :1]).all()  # grey
    assert (found.images[3] != found.images[3, :1]).any()


def test_labels_number_the_sorted_wnids(tmp_path: Path) -> None:
    """Whatever the order of wnids.txt, and whichever classes have images."""
    write_official(tmp_path, [p for p in photos() if p.label in (1, 4)], photos()[6:])
    train = data.load("tiny-imagenet", "train", tmp_path)
    assert train.labels.tolist() == [1, 1, 4, 4] and train.classes[4] == "cliff"
    assert data.load("tiny-imagenet", "valid", tmp_path).labels.tolist() == [3, 3, 4, 4]


def test_several_parquet_files_follow_each_other(tmp_path: Path) -> None:
    images = photos()
    for number, part in enumerate((images[:3], images[3:8], images[8:])):
        write_parquet(tmp_path / "parts", f"train-{number}", part)
    write_parquet(tmp_path / "one", "train", images)
    parts, one = (data.load("tiny-imagenet", "train", tmp_path / name) for name in ("parts", "one"))
    assert_same(parts, one)


def test_without_boxes_and_names(tmp_path: Path) -> None:
    write_parquet(tmp_path, "valid", photos(), boxes=False)
    (tmp_path / "tiny-imagenet-classes.tsv").unlink()
    found = data.load("tiny-imagenet", "valid", tmp_path)
    assert found.boxes is None and len(found.classes) == 200 and found.classes[3] == "class 3"


@pytest.mark.parametrize(("name", "stride"), [("tiny-imagenet-100", 2), ("tiny-imagenet-50", 4)])
@pytest.mark.parametrize("layout", ["hub", "official"])
def test_subsets_keep_every_so_many_classes(
    tmp_path: Path, name: str, stride: int, layout: str
) -> None:
    write_parquet(tmp_path / "hub", "valid", photos())
    write_official(tmp_path / "official", [], photos())
    full = data.load("tiny-imagenet", "valid", tmp_path / layout)
    part = data.load(name, "valid", tmp_path / layout)
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
    write_parquet(tmp_path, "valid", photos())
    first = data.load("tiny-imagenet", "valid", tmp_path)
    assert [p.name for p in tiny_cache.iterdir()] == [f"valid-{first.fingerprint}"]

    def never(*args: object) -> bytes:
        raise AssertionError("decoded again")

    monkeypatch.setattr(decoded.Source, "decode", never)
    assert_same(data.load("tiny-imagenet", "valid", tmp_path), first)
    data.load("tiny-imagenet-100", "valid", tmp_path)
    write_parquet(tmp_path, "train", photos())
    with pytest.raises(AssertionError, match="decoded again"):
        data.load("tiny-imagenet", "train", tmp_path)


def test_another_source_has_another_cache(tmp_path: Path) -> None:
    write_parquet(tmp_path, "valid", photos())
    first = data.load("tiny-imagenet", "valid", tmp_path)
    write_parquet(tmp_path, "valid", photos(first=100))
    second = data.load("tiny-imagenet", "valid", tmp_path)
    assert first.fingerprint != second.fingerprint
    assert not torch.equal(first.images, second.images)
    write_parquet(tmp_path, "valid", photos())
    assert data.load("tiny-imagenet", "valid", tmp_path).fingerprint == first.fingerprint


def test_changed_annotations_are_read_again(tmp_path: Path) -> None:
    folder = write_official(tmp_path, photos(), photos())
    first = data.load("tiny-imagenet", "valid", tmp_path)
    listing = folder / "val" / "val_annotations.txt"
    listing.write_text("\n".join(listing.read_text().splitlines()[:4]) + "\n")
    second = data.load("tiny-imagenet", "valid", tmp_path)
    assert (len(first), len(second)) == (10, 4) and first.fingerprint != second.fingerprint


@pytest.mark.parametrize("split", ["train", "valid"])
def test_bytes_that_change_in_the_middle_of_an_image(tmp_path: Path, split: str) -> None:
    """Under the same lists, with the same size and time; a parquet file alike."""
    folder = write_official(tmp_path / "official", photos(), photos())
    inside = {
        "train": f"train/{ORDER[1]}/images/{ORDER[1]}_1.JPEG",
        "valid": "val/images/val_3.JPEG",
    }
    for path, root in (
        (folder / inside[split], tmp_path / "official"),
        (write_parquet(tmp_path / "hub", split, photos()), tmp_path / "hub"),
    ):
        before, stat = data.load("tiny-imagenet", split, root), path.stat()
        raw = bytearray(path.read_bytes())
        place = raw.rindex(b"\xff\xda") + 40  # in the scan of the last image that it holds
        raw[place] ^= 1
        path.write_bytes(raw)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        after = data.load("tiny-imagenet", split, root)
        assert after.fingerprint != before.fingerprint
        assert root.name == "hub" or not torch.equal(after.images, before.images)


def zeros(path: Path) -> None:
    size = path.stat().st_size
    path.unlink()
    path.write_bytes(bytes(size))


def cut(path: Path) -> None:
    raw = path.read_bytes()
    path.unlink()
    path.write_bytes(raw[:-1])


@pytest.mark.parametrize("file", ["images.u8", "columns.npz"])
@pytest.mark.parametrize(
    "damage", [zeros, Path.unlink, lambda path: zeros(path.parent / "images.u8")]
)
def test_a_damaged_copy_is_made_again(
    tmp_path: Path,
    tiny_cache: Path,
    file: str,
    damage: Callable[[Path], object],
    caplog: pytest.LogCaptureFixture,
) -> None:
    write_parquet(tmp_path, "valid", photos())
    first = data.load("tiny-imagenet", "valid", tmp_path)
    expected = first.images.clone()
    (folder,) = tiny_cache.iterdir()
    damage(folder / file)
    with caplog.at_level(logging.WARNING):
        again = data.load("tiny-imagenet", "valid", tmp_path)
    assert torch.equal(again.images, expected) and again.fingerprint == first.fingerprint
    (said,) = [record.getMessage() for record in caplog.records]
    assert str(folder) in said and "decoded again" in said and "\n" not in said
    caplog.clear()
    data.load("tiny-imagenet", "valid", tmp_path)
    assert not caplog.records


def test_a_check_reads_the_whole_copy(
    tmp_path: Path, tiny_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_parquet(tmp_path, "valid", photos())
    data.load("tiny-imagenet", "valid", tmp_path)
    (folder,) = tiny_cache.iterdir()
    monkeypatch.setattr(mapped, "VERIFIED", 0)
    raw = bytearray((folder / "images.u8").read_bytes())
    raw[70_000] ^= 1
    (folder / "images.u8").write_bytes(raw)
    report = check.check("tiny-imagenet", tmp_path, progress=False)
    assert not report.problems and not folder.exists()
    assert any("the decoded copy was damaged and is removed" in line for line in report.lines)


def test_an_interrupted_decoding_leaves_nothing(
    tmp_path: Path, tiny_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_parquet(tmp_path, "valid", photos())
    with monkeypatch.context() as patch:
        decode = decoded.Source.decode

        def interrupted(source: decoded.Source, file: bytes, where: str) -> bytes:
            if where.startswith("image 7 "):
                raise KeyboardInterrupt
            return decode(source, file, where)

        patch.setattr(decoded.Source, "decode", interrupted)
        with pytest.raises(KeyboardInterrupt):
            data.load("tiny-imagenet", "valid", tmp_path)
    assert list(tiny_cache.iterdir()) == []
    assert len(data.load("tiny-imagenet", "valid", tmp_path)) == 10


# -- bad input -------------------------------------------------------------------------------------


def refused(tiny_cache: Path, root: Path, split: str, message: str) -> None:
    """One clear error, of one line, and no half-written cache."""
    with pytest.raises(DamagedDataError, match=message) as caught:
        data.load("tiny-imagenet", split, root)
    assert "\n" not in str(caught.value).strip()
    assert not tiny_cache.exists() or list(tiny_cache.iterdir()) == []


@pytest.mark.parametrize("name", ["tiny-imagenet", "tiny-imagenet-50"])
def test_missing_root(tmp_path: Path, name: str) -> None:
    root = tmp_path / "nowhere"
    with pytest.raises(MissingDataError, match=f"{name}: {re.escape(str(root))} does not exist"):
        data.load(name, "valid", root)
    root.mkdir()
    with pytest.raises(MissingDataError, match=r"holds neither .*TTTLIB_DATA") as caught:
        data.load(name, "valid", root)
    assert "tiny-imagenet-200.zip" in str(caught.value)


def test_the_root_may_come_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_parquet(tmp_path / "elsewhere", "valid", photos())
    monkeypatch.setenv("TTTLIB_DATA", str(tmp_path / "elsewhere"))
    assert len(data.load("tiny-imagenet", "valid")) == 10


def test_a_split_without_files_is_missing(tmp_path: Path) -> None:
    write_parquet(tmp_path, "valid", photos())
    with pytest.raises(MissingDataError, match=r"tiny-imagenet-train\*.parquet"):
        data.load("tiny-imagenet", "train", tmp_path)


def test_there_is_no_test_split(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown split 'test' of 'tiny-imagenet'; it has train"):
        data.load("tiny-imagenet", "test", tmp_path)


@pytest.mark.parametrize("share", [0, 0.5, 0.99])
def test_truncated_parquet(tmp_path: Path, tiny_cache: Path, share: float) -> None:
    path = write_parquet(tmp_path, "valid", photos())
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    refused(tiny_cache, tmp_path, "valid", f"{re.escape(str(path))} is truncated or has no columns")


def test_parquet_with_a_damaged_page(tmp_path: Path, tiny_cache: Path) -> None:
    path = write_parquet(tmp_path, "valid", photos())
    raw = bytearray(path.read_bytes())
    middle = len(raw) // 2
    raw[middle : middle + 4000] = bytes(4000)  # the footer stays whole
    path.write_bytes(raw)
    refused(tiny_cache, tmp_path, "valid", f"{re.escape(str(path))} is truncated")


def test_parquet_of_something_else(tmp_path: Path, tiny_cache: Path) -> None:
    path = tmp_path / "tiny-imagenet-valid.parquet"
    pq.write_table(pa.table({"text": ["a", "b"]}), path)
    refused(tiny_cache, tmp_path, "valid", f"{re.escape(str(path))} is truncated or has no columns")


def test_second_part_truncated(tmp_path: Path, tiny_cache: Path) -> None:
    write_parquet(tmp_path, "train-0", photos())
    path = write_parquet(tmp_path, "train-1", photos(first=20))
    path.write_bytes(path.read_bytes()[:-100])
    refused(tiny_cache, tmp_path, "train", re.escape(str(path)))


@pytest.mark.parametrize("split", ["train", "valid"])
def test_a_listed_image_is_missing(tmp_path: Path, tiny_cache: Path, split: str) -> None:
    folder = write_official(tmp_path, photos(), photos())
    where = {
        "train": f"train/{ORDER[1]}/images/{ORDER[1]}_1.JPEG",
        "valid": "val/images/val_3.JPEG",
    }
    path = folder / where[split]
    path.unlink()
    refused(tiny_cache, tmp_path, split, f"{re.escape(str(path))} is missing")


@pytest.mark.parametrize(
    ("split", "file"),
    [("train", f"train/{ORDER[1]}/{ORDER[1]}_boxes.txt"), ("valid", "val/val_annotations.txt")],
)
@pytest.mark.parametrize("damage", ["missing", "truncated", "unknown"])
def test_damaged_listing(
    tmp_path: Path, tiny_cache: Path, split: str, file: str, damage: str
) -> None:
    path = write_official(tmp_path, photos(), photos()) / file
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_text(path.read_text().rsplit("\t", 2)[0])  # the last line lacks two numbers
    elif split == "valid":
        path.write_text(path.read_text().replace(ORDER[2], "n99999999"))
    else:
        path.write_text(path.read_text().replace("\t63", "\tsixty"))
    refused(tiny_cache, tmp_path, split, re.escape(str(path)))


@pytest.mark.parametrize("layout", ["hub", "official"])
@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (jpeg(0, size=(64, 48)), "image 4 of .* is 64x48, not 64x64"),
        (jpeg(0)[:300], "image 4 of .* cannot be decoded"),
        (b"no image", "image 4 of .* cannot be decoded"),
        (b"", "image 4 of .* cannot be decoded"),
    ],
)
def test_a_bad_image_is_named(
    tmp_path: Path, tiny_cache: Path, layout: str, bad: bytes, message: str
) -> None:
    images = photos()
    images[4] = replace(images[4], jpeg=bad)
    if layout == "hub":
        write_parquet(tmp_path, "valid", images)
    else:
        write_official(tmp_path, [], images)
    refused(tiny_cache, tmp_path, "valid", message)


@pytest.mark.parametrize("label", [-1, 200])
def test_labels_out_of_range(tmp_path: Path, tiny_cache: Path, label: int) -> None:
    path = write_parquet(tmp_path, "valid", [replace(photos()[0], label=label)])
    refused(tiny_cache, tmp_path, "valid", rf"{re.escape(str(path))}: labels must lie in 0\.\.4")


def test_no_rows(tmp_path: Path, tiny_cache: Path) -> None:
    path = write_parquet(tmp_path, "valid", [])
    refused(tiny_cache, tmp_path, "valid", f"{re.escape(str(path))}: .*there must be rows")


# -- the real files --------------------------------------------------------------------------------


@pytest.mark.real_data
def test_real_valid_split(data_root: Path) -> None:
    found = data.load("tiny-imagenet", "valid", data_root)
    assert len(found) == 10_000 and len(found.classes) == 200
    assert found.labels.bincount().tolist() == [50] * 200
    assert found.classes[0] == "goldfish" and found.classes[4] == "American alligator"
    assert found.boxes is not None
    assert found.boxes[:, :2].min() >= 0 and found.boxes[:, 2:].max() <= 64
    inside = found.boxes[:, 2:] - 1 - found.boxes[:, :2]  # inclusive coordinates, as in the files
    assert (inside.min(1).values <= 0).sum() == 41  # boxes without area
    size = found.boxes[:, 2:] - found.boxes[:, :2]
    assert (size.prod(1) == 64 * 64).float().mean() == pytest.approx(0.057, abs=5e-4)
    grey = (found.images[:, 0] == found.images[:, 1]).flatten(1).all(1)
    assert 0 < grey.sum() < 1000
    assert found.images.float().std() > 50
    half = data.load("tiny-imagenet-100", "valid", data_root)
    assert len(half) == 5_000 and half.classes == found.classes[::2]
