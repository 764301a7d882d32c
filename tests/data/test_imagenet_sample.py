"""One photograph of each class of ImageNet, as parquet and as files."""

from __future__ import annotations

import io
from pathlib import Path

import official
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torchvision import transforms
from torchvision.transforms import InterpolationMode

from tttlib import data
from tttlib.data import imagenet
from tttlib.data.delivery import check

SIZES = {999: (288, 256), 0: (256, 280), 134: (400, 300)}  # label -> width, height
NAMES = {999: "toilet_tissue", 0: "tench", 134: "crane"}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TTTLIB_CACHE", str(tmp_path / "cache"))


def write_files(folder: Path) -> dict[int, Path]:
    return {
        label: official.write_jpeg(
            folder / f"{imagenet.wnids()[label]}_{NAMES[label]}.JPEG", label, size,
            "L" if label == 134 else "RGB",
        )
        for label, size in SIZES.items()
    }  # fmt: skip


def write_parquet(root: Path, files: dict[int, Path]) -> None:
    images = [{"bytes": files[k].read_bytes(), "path": files[k].name} for k in sorted(files)]
    table = pa.table({"image": images, "label": sorted(files)})
    pq.write_table(table, root / "imagenet-sample-1000.parquet")


@pytest.mark.parametrize("place", ["imagenet-sample-images", "imagenet-sample", "."])
def test_both_layouts_give_the_same(place: str, tmp_path: Path) -> None:
    files = write_files(tmp_path / "a" / place)
    (tmp_path / "b").mkdir()
    write_parquet(tmp_path / "b", files)
    flat, packed = (data.load("imagenet-1000", "valid", tmp_path / part) for part in "ab")
    steps = [transforms.Resize(256, InterpolationMode.BICUBIC), transforms.CenterCrop(224)]
    explicit = transforms.Compose([*steps, transforms.PILToTensor()])
    for one in (flat, packed):
        assert one.name == "imagenet-1000 (3 of 1000 images)" and one.split == "valid"
        assert one.labels.tolist() == [0, 134, 999] and one.classes == imagenet.class_names()
        for image, label in zip(one.images[:], (0, 134, 999), strict=True):
            with Image.open(io.BytesIO(files[label].read_bytes())) as opened:
                assert torch.equal(image, explicit(opened.convert("RGB")))
    other = data.load("imagenet-1000", "valid", tmp_path / "b", preprocess="resize256-bilinear")
    assert other.fingerprint != packed.fingerprint
    assert not torch.equal(other.images[:], packed.images[:])


def test_the_sample_is_served_where_imagenet_is_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(FileNotFoundError, match="imagenet-sample: looked for"):
        data.load("imagenet-sample", "valid", tmp_path)
    write_files(tmp_path / "imagenet-sample-images")
    assert data.load("imagenet-sample", "valid", tmp_path).name.startswith("imagenet-1000 (3 of")
    assert "served is imagenet-1000" in caplog.text
    official.write_jpeg(tmp_path / "val" / imagenet.wnids()[5] / official.val_name(1), 1)
    assert data.load("imagenet-sample", "valid", tmp_path).name.startswith("imagenet (5 a class")


def test_what_does_not_fit_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"holds neither imagenet-sample-1000\.parquet nor"):
        data.load("imagenet-1000", "valid", tmp_path)
    files = write_files(tmp_path)
    with pytest.raises(ValueError, match="valid"):
        data.load("imagenet-1000", "train", tmp_path)
    official.write_jpeg(tmp_path / "n00000001_thing.JPEG", 1)
    with pytest.raises(
        data.DamagedDataError, match=r"n00000001_thing\.JPEG is not named by one of"
    ):
        data.load("imagenet-1000", "valid", tmp_path)
    write_parquet(tmp_path, {k: files[k] for k in (0, 999)})
    report = check.check("imagenet-1000", tmp_path)
    assert not report.problems and "2 images" in " ".join(report.lines + report.missing)


def test_real_photographs(data_root: Path) -> None:
    images = data.load("imagenet-sample", "valid", data_root)
    assert images.name == "imagenet-1000" and images.labels.tolist() == list(range(1000))
    assert images.images[:2].shape == (2, 3, 224, 224)
