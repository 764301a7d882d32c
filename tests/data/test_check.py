"""`check` on every dataset in its official layout: intact, incomplete, and with a damage each."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import official
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import test_cifar10_jpeg as jpeg
import test_tiny_imagenet as tiny
import torch

from tttlib import __main__ as cli
from tttlib import data
from tttlib.commands import catalogue
from tttlib.data import MissingDataError, imagenet, scenes_sources
from tttlib.data.delivery import archives, check, check_report

Write = Callable[[Path], Path]  # writes the dataset; returns a file that can be damaged


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Makes the files of a folder the published ones."""

    def publish(folder: Path) -> None:
        of = {f.name: hashlib.md5(f.read_bytes()).hexdigest() for f in folder.iterdir()}
        monkeypatch.setitem(archives.PUBLISHED, folder.name, of)

    return publish


def tiny_parquet(root: Path) -> Path:
    tiny.write_parquet(root, "train", tiny.photos())
    return tiny.write_parquet(root, "valid", tiny.photos())


def tiny_official(root: Path) -> Path:
    folder = tiny.write_official(root, tiny.photos(), tiny.photos())
    return folder / "train" / tiny.ORDER[1] / "images" / f"{tiny.ORDER[1]}_1.JPEG"


def cifar10_jpeg(root: Path) -> Path:
    jpeg.write(root, "train", [1, 2])
    return jpeg.write(root, "test", [3, 9, 0])


def cifar10(root: Path) -> Path:
    official.write_cifar10(root)
    return root / "cifar-10-batches-py" / "data_batch_3"


def cifar100(root: Path) -> Path:
    official.write_cifar100(root)
    return root / "cifar-100-python" / "train"


def cifar10_c(root: Path) -> Path:
    official.write_cifar_c(root)
    return root / "CIFAR-10-C" / "saturate.npy"


def cifar100_c(root: Path) -> Path:
    official.write_cifar_c(root, "CIFAR-100-C", classes=100)
    return root / "CIFAR-100-C" / "fog.npy"


def imagenet_folders(root: Path) -> Path:
    for label in (3, 998):
        folder = root / "ImageNet" / "val" / imagenet.wnids()[label]
        for number in (label, label + 1):
            path = official.write_jpeg(folder / official.val_name(number), number, (70, 60))
    return path


def imagenet_c(root: Path) -> Path:
    official.write_imagenet_c(root, {7: 1}, "fog/1")
    return official.write_imagenet_c(root, {7: 2, 998: 1}, "fog/5")[1][0]


def tiny_c(root: Path) -> Path:
    return official.write_tiny_c(root, "snow/2")[1][0]


WRITERS: dict[str, Write] = {
    "tiny-imagenet": tiny_official,
    "tiny-imagenet-100": tiny_official,
    "tiny-imagenet-50": tiny_parquet,
    "cifar10-jpeg": cifar10_jpeg,
    "cifar10": cifar10,
    "cifar100": cifar100,
    "cifar10-c": cifar10_c,
    "cifar100-c": cifar100_c,
    "imagenet": imagenet_folders,
    "imagenet-sample": imagenet_folders,
    "imagenet-c": imagenet_c,
    "tiny-imagenet-c": tiny_c,
}
COUNTS = {
    "tiny-imagenet": {"train": 10, "valid": 10},
    "tiny-imagenet-100": {"train": 10, "valid": 10},
    "tiny-imagenet-50": {"train": 10, "valid": 10},
    "cifar10-jpeg": {"train": 2, "test": 3},
    "cifar10": {"train": 15, "test": 3},
    "cifar100": {"train": 4, "test": 4},
    "cifar10-c": {"fog": 4, "saturate": 4},
    "cifar100-c": {"fog": 4, "saturate": 4},
    "imagenet": {"valid": 4},
    "imagenet-sample": {"valid": 4},
    "imagenet-c": {"fog severity 1": 1, "fog severity 5": 3},
    "tiny-imagenet-c": {"snow severity 2": 4},
}


def run(name: str, root: Path) -> check.Report:
    return check.check(name, root, progress=False)


def test_every_dataset_can_be_checked_and_is_in_the_catalogue() -> None:
    assert {"scenes", *WRITERS} == set(data.NAMES) == set(check._CHECKS)
    assert tuple(entry.name for entry in catalogue.ENTRIES) == data.NAMES


@pytest.mark.parametrize("name", WRITERS)
def test_an_intact_part_of_a_dataset(
    name: str, tmp_path: Path, published: Callable[[Path], None]
) -> None:
    published(WRITERS[name](tmp_path).parent)
    report = run(name, tmp_path)
    assert report.problems == []
    assert {part: sum(counts) for part, counts in report.counts.items()} == COUNTS[name]
    part, n = next(iter(COUNTS[name].items()))
    assert any(said.startswith(f"{part}: {n} of ") for said in report.missing)
    entry = next(one for one in catalogue.ENTRIES if one.name == name)
    assert catalogue.found(entry, tmp_path) is not None
    assert catalogue.found(entry, tmp_path / "elsewhere") is None


@pytest.mark.parametrize("name", WRITERS)
def test_a_damaged_file_is_named(
    name: str,
    tmp_path: Path,
    published: Callable[[Path], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = WRITERS[name](tmp_path)
    published(path.parent)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    report = run(name, tmp_path)
    assert len(report.problems) >= 1 and str(path) in report.problems[0], report.problems
    with pytest.raises(SystemExit) as caught:
        cli.main(["data", "check", name, "--data", str(tmp_path)])
    out, err = capsys.readouterr()
    assert caught.value.code == 2
    (line,) = [said for said in err.splitlines() if said.startswith("error: ")]
    assert f"error: {name} is damaged, " in line and str(path) in line
    assert f"damaged: {report.problems[0]}" in out and "intact" not in out


@pytest.mark.parametrize("name", WRITERS)
def test_nothing_there(name: str, tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match=name):
        run(name, tmp_path)


def test_unknown_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"unknown dataset 'cifar'; known are scenes, tiny-"):
        run("cifar", tmp_path)


def test_scenes(monkeypatch: pytest.MonkeyPatch) -> None:
    report = check.check("scenes", progress=False)
    assert not report.problems and not report.missing
    assert {part: sum(counts) for part, counts in report.counts.items()} == dict.fromkeys(
        ("train", "valid", "test"), 512
    )
    assert any("512 boxes, 0 without area, 0 reach out" in line for line in report.lines)
    monkeypatch.setattr(scenes_sources, "PHOTOGRAPHS", (("skimage/data/none.png", "train"),))
    scenes_sources.read_photographs.cache_clear()
    try:
        with pytest.raises(MissingDataError, match=r"skimage/data/none\.png"):
            check.check("scenes", progress=False)
    finally:
        scenes_sources.read_photographs.cache_clear()


# -- what is found beside cut files ----------------------------------------------------------------


def test_all_damaged_images_are_listed_from_the_source(tmp_path: Path) -> None:
    """Also where a decoded copy is in the cache."""
    folder = tiny_official(tmp_path).parents[3]
    data.load("tiny-imagenet", "valid", tmp_path)
    bad = [folder / "val" / "images" / f"val_{i}.JPEG" for i in (2, 7)]
    for path in bad:
        path.write_bytes(b"no image")
    report = run("tiny-imagenet", tmp_path)
    assert len(report.problems) == 2
    for path, said in zip(bad, report.problems, strict=True):
        assert str(path) in said and "cannot be decoded" in said
    assert sum(report.counts["train"]) == 10


def test_the_row_of_the_right_parquet_file_is_named(tmp_path: Path) -> None:
    bad = tiny.photos()
    bad[1] = tiny.replace(bad[1], jpeg=b"no image")
    tiny.write_parquet(tmp_path, "train-0", tiny.photos())
    path = tiny.write_parquet(tmp_path, "train-1", bad)
    (said,) = run("tiny-imagenet", tmp_path).problems
    assert said.startswith(f"image 1 of {path} cannot be decoded")


def test_rows_before_a_damaged_page_are_counted(tmp_path: Path) -> None:
    tiny.write_parquet(tmp_path, "train-0", tiny.photos())
    (tmp_path / "tiny-imagenet-train-1.parquet").write_bytes(b"PAR1")
    report = run("tiny-imagenet", tmp_path)
    assert sum(report.counts["train"]) == 10 and "nothing behind it was read" in report.problems[0]


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "cifar10-c", "cifar100-c"])
def test_a_changed_byte_is_found_by_checksum(
    name: str, tmp_path: Path, published: Callable[[Path], None]
) -> None:
    path = WRITERS[name](tmp_path)
    published(path.parent)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    (said,) = run(name, tmp_path).problems
    assert said.startswith(f"{path} is not the published file: its md5 is ")


def test_published_checksums_are_complete() -> None:
    assert {name: len(files) for name, files in archives.PUBLISHED.items()} == {
        "cifar-10-batches-py": 7, "cifar-100-python": 3, "CIFAR-10-C": 20, "CIFAR-100-C": 20,
    }  # fmt: skip
    all_of = [one for files in archives.PUBLISHED.values() for one in files.values()]
    assert len(set(all_of)) == 50 and {len(one) for one in all_of} == {32}


def test_made_corruptions_have_no_published_checksum(tmp_path: Path) -> None:
    path = cifar10_c(tmp_path)
    assert run("cifar10-c", tmp_path).problems
    (path.parent / "made.json").write_text("{}")
    report = run("cifar10-c", tmp_path)
    assert not report.problems and any("made by tttlib" in line for line in report.lines)


def test_present_and_missing_corruptions(tmp_path: Path, published: Callable[[Path], None]) -> None:
    published(cifar10_c(tmp_path).parent)
    arrays = run("cifar10-c", tmp_path)
    assert "gaussian_noise" in arrays.missing and "fog" not in arrays.missing
    imagenet_c(tmp_path)
    grid = run("imagenet-c", tmp_path)
    assert "fog: severities 2, 3, 4" in grid.missing and "spatter" in grid.missing
    assert any(line == "fog: severities 1 (1 images), 5 (3 images)" for line in grid.lines)
    tiny_c(tmp_path)
    small = run("tiny-imagenet-c", tmp_path)
    assert "snow: severities 1, 3, 4, 5" in small.missing and "fog" in small.missing
    assert "spatter" not in small.missing  # the release has 15


def test_counts_that_contradict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = cifar10_jpeg(tmp_path)

    def expecting(n: int) -> check.Report:
        source = check.cifar10_jpeg.find_source
        monkeypatch.setitem(
            check._CHECKS,
            "cifar10-jpeg",
            lambda notes: check._encoded(notes, source=source, expected={"test": n}),
        )
        return run("cifar10-jpeg", tmp_path)

    (said,) = expecting(2).problems
    assert said == f"{path}: 3 images of test, where 2 are published"
    jpeg.write(tmp_path, "test", [0, 0, *range(2, 10)])
    (said,) = expecting(10).problems
    assert said == f"{path}: 2 images of class 0 in test, where 1 are published"
    jpeg.write(tmp_path, "test", [*range(10)])
    assert expecting(10).problems == [] and expecting(10).missing == []
    jpeg.write(tmp_path, "test", [3, 10])
    (said,) = expecting(10).problems
    assert said == f"image 1 of {path} has the label 10, legal are 0..9"
    jpeg.write(tmp_path, "test", [])
    assert str(path) in expecting(10).problems[0]


def test_labels_of_the_arrays_missing(tmp_path: Path) -> None:
    labels = cifar10_c(tmp_path).with_name("labels.npy")
    labels.unlink()
    assert run("cifar10-c", tmp_path).problems == [f"{labels} is missing; fetch it again"]


def test_the_list_of_5000(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    imagenet_folders(tmp_path)
    assert any("would be the first 5" in said for said in run("imagenet", tmp_path).missing)
    path = tmp_path / imagenet.LIST_FILE
    path.write_text(f"{imagenet.wnids()[3]}/{official.val_name(3)}")
    (said,) = run("imagenet", tmp_path).problems
    assert str(path) in said and "sha256" in said
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(imagenet, "LIST_SHA256", digest)
    report = run("imagenet", tmp_path)
    assert not report.problems and any("the published list" in line for line in report.lines)


# -- boxes -----------------------------------------------------------------------------------------


def test_box_counts() -> None:
    boxes = torch.tensor(
        [
            [0, 0, 64, 64],  # all of it
            [5, 5, 6, 20],  # one pixel wide: xmax = xmin in the file
            [5, 9, 20, 8],  # upside down
            [-1, 0, 10, 10],
            [60, 60, 65, 62],
            [1, 0, 64, 64],
        ]
    )
    assert check_report.box_counts(boxes, 64, 64) == {
        "boxes": 6, "no_area": 2, "outside": 2, "whole_image": 1,
    }  # fmt: skip
    assert check_report.box_counts(boxes[:0], 64, 64)["boxes"] == 0


def test_an_image_without_a_box(tmp_path: Path) -> None:
    path = tiny.write_parquet(tmp_path, "valid", tiny.photos())
    table = pq.read_table(path)
    boxes = [None, *table["bbox"].to_pylist()[1:]]
    column = pa.array(boxes, pa.list_(pa.int16()))
    pq.write_table(table.set_column(2, "bbox", column), path)
    (said,) = run("tiny-imagenet", tmp_path).problems
    assert said == f"{path}: 1 images of valid lack a box"


def test_many_problems_are_cut_short(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = [tiny.replace(photo, jpeg=b"") for photo in tiny.photos(30)]
    tiny.write_parquet(tmp_path, "valid", bad)
    with pytest.raises(SystemExit):
        cli.main(["data", "check", "tiny-imagenet", "--root", str(tmp_path), "--classes"])
    out = capsys.readouterr().out
    assert out.count("damaged: image ") == 20 and "damaged: … and 10 more" in out
    assert "valid: 6 6 6 6 6" in out and "missing: train" in out


@pytest.mark.real_data
def test_real_valid_boxes(data_root: Path) -> None:
    found = data.load("tiny-imagenet", "valid", data_root)
    assert found.boxes is not None
    counts = check_report.box_counts(found.boxes, 64, 64)
    assert counts == {"boxes": 10_000, "no_area": 41, "outside": 0, "whole_image": 572}
    assert np.isclose(counts["whole_image"] / 10_000, 0.057, atol=5e-4)
