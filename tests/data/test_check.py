"""`check` on every dataset in its official layout: intact, incomplete, and with a damage each."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import official
import pytest
import torch
from official import ORDER, photos, write_cifar_jpeg, write_tiny_hub

from tttlib import __main__ as cli
from tttlib import data
from tttlib.commands import catalogue
from tttlib.data import MissingDataError, imagenet, scenes_sources
from tttlib.data.delivery import archives, check
from tttlib.data.delivery.check_report import Report


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Makes the files of a folder the published ones."""

    def publish(folder: Path) -> None:
        of = {f.name: hashlib.md5(f.read_bytes()).hexdigest() for f in folder.iterdir()}
        monkeypatch.setitem(archives.PUBLISHED, folder.name, of)

    return publish


def tiny_parquet(root: Path) -> Path:
    write_tiny_hub(root, "train", photos())
    return write_tiny_hub(root, "valid", photos())


def tiny_official(root: Path) -> Path:
    folder = official.write_tiny(root, photos(), photos())
    return folder / "train" / ORDER[1] / "images" / f"{ORDER[1]}_1.JPEG"


def cifar10_jpeg(root: Path) -> Path:
    write_cifar_jpeg(root, "train", [1, 2])
    return write_cifar_jpeg(root, "test", [3, 9, 0])


def arrays(root: Path, classes: int) -> Path:
    official.write_cifar_c(root, classes)
    return root / f"CIFAR-{classes}-C" / "fog.npy"


def pickles(root: Path, classes: int, file: str) -> Path:
    official.write_cifar(root, classes)
    return root / file


def imagenet_folders(root: Path) -> Path:
    for label in (3, 998):
        folder = root / "ImageNet" / "val" / imagenet.wnids()[label]
        for number in (label, label + 1):
            path = official.write_jpeg(folder / official.val_name(number), number, (70, 60))
    return path


def photographs(root: Path) -> Path:
    for label in (3, 998):
        name = f"{imagenet.wnids()[label]}_name.JPEG"
        path = official.write_jpeg(root / "imagenet-sample-images" / name, label, (256, 280))
    return path


def imagenet_c(root: Path) -> Path:
    official.write_imagenet_c(root, {7: 1}, "fog/1")
    return official.write_imagenet_c(root, {7: 2, 998: 1}, "fog/5")[1][0]


# dataset -> (writes it and returns a file that can be damaged, the images of its parts)
SETS: dict[str, tuple[Callable[[Path], Path], dict[str, int]]] = {
    "tiny-imagenet": (tiny_official, {"train": 10, "valid": 10}),
    "tiny-imagenet-100": (tiny_official, {"train": 10, "valid": 10}),
    "tiny-imagenet-50": (tiny_parquet, {"train": 10, "valid": 10}),
    "cifar10-jpeg": (cifar10_jpeg, {"train": 2, "test": 3}),
    "cifar10": (
        lambda root: pickles(root, 10, "cifar-10-batches-py/data_batch_3"),
        {"train": 15, "test": 3},
    ),
    "cifar100": (
        lambda root: pickles(root, 100, "cifar-100-python/train"),
        {"train": 3, "test": 3},
    ),
    "cifar10-c": (lambda root: arrays(root, 10), {"fog": 4, "saturate": 4}),
    "cifar100-c": (lambda root: arrays(root, 100), {"fog": 4, "saturate": 4}),
    "imagenet": (imagenet_folders, {"valid": 4}),
    "imagenet-sample": (imagenet_folders, {"valid": 4}),
    "imagenet-1000": (photographs, {"valid": 2}),
    "imagenet-c": (imagenet_c, {"fog severity 1": 1, "fog severity 5": 3}),
    "tiny-imagenet-c": (
        lambda root: official.write_tiny_c(root, "snow/2")[1][0],
        {"snow severity 2": 4},
    ),
}


def write(name: str, root: Path) -> Path:
    return SETS[name][0](root)


def test_every_dataset_can_be_checked_and_is_in_the_catalogue() -> None:
    assert {"scenes", "scenes-calm", *SETS} == set(data.NAMES) == set(check._CHECKS)
    assert tuple(entry.name for entry in catalogue.ENTRIES) == data.NAMES


@pytest.mark.parametrize("name", SETS)
def test_whole_then_damaged(
    name: str,
    tmp_path: Path,
    published: Callable[[Path], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(MissingDataError, match=name):
        check.check(name, tmp_path)
    path, counts = write(name, tmp_path), SETS[name][1]
    published(path.parent)
    report = check.check(name, tmp_path)
    assert report.problems == []
    assert {part: sum(found) for part, found in report.counts.items()} == counts
    part, n = next(iter(counts.items()))
    assert any(said.startswith(f"{part}: {n} of ") for said in report.missing)
    entry = next(one for one in catalogue.ENTRIES if one.name == name)
    assert catalogue.found(entry, tmp_path) is not None
    assert catalogue.found(entry, tmp_path / "elsewhere") is None

    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        cli.main(["data", "check", name, "--data", str(tmp_path)])
    out, err = capsys.readouterr()
    assert caught.value.code == 2
    (line,) = [said for said in err.splitlines() if said.startswith("error: ")]
    assert f"error: {name} is damaged, " in line and str(path) in line
    assert "intact" not in out
    (first, *_) = [said for said in out.splitlines() if said.startswith("damaged: ")]
    assert str(path) in first


def test_unknown_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"unknown dataset 'cifar'; known are scenes, scenes-"):
        check.check("cifar", tmp_path)


@pytest.mark.parametrize("name", ["scenes", "scenes-calm"])
def test_scenes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    report = check.check(name)
    assert not report.problems and not report.missing
    assert {part: sum(counts) for part, counts in report.counts.items()} == dict.fromkeys(
        ("train", "valid", "test"), 512
    )
    assert any("512 boxes, 0 without area, 0 reach out" in line for line in report.lines)
    monkeypatch.setattr(scenes_sources, "PHOTOGRAPHS", (("skimage/data/none.png", "train"),))
    scenes_sources.read_photographs.cache_clear()
    try:
        with pytest.raises(MissingDataError, match=r"skimage/data/none\.png"):
            check.check(name)
    finally:
        scenes_sources.read_photographs.cache_clear()


def test_all_damaged_images_are_listed_from_the_source(tmp_path: Path) -> None:
    """Also where a decoded copy is in the cache."""
    folder = tiny_official(tmp_path).parents[3]
    data.load("tiny-imagenet", "valid", tmp_path)
    bad = [folder / "val" / "images" / f"val_{i}.JPEG" for i in (2, 7)]
    for path in bad:
        path.write_bytes(b"no image")
    report = check.check("tiny-imagenet", tmp_path)
    for path, said in zip(bad, report.problems, strict=True):
        assert str(path) in said and "cannot be decoded" in said
    assert sum(report.counts["train"]) == 10


def test_damage_in_one_of_several_parquet_files(tmp_path: Path) -> None:
    """The row and its file are named; rows before a file that cannot be read are counted."""
    bad = photos()
    bad[1] = replace(bad[1], jpeg=b"no image")
    write_tiny_hub(tmp_path, "train-0", photos())
    path = write_tiny_hub(tmp_path, "train-1", bad)
    (said,) = check.check("tiny-imagenet", tmp_path).problems
    assert said.startswith(f"image 1 of {path} cannot be decoded")
    path.write_bytes(b"PAR1")
    report = check.check("tiny-imagenet", tmp_path)
    assert sum(report.counts["train"]) == 10 and "nothing behind it was read" in report.problems[0]


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "cifar10-c", "cifar100-c"])
def test_a_changed_byte_is_found_by_checksum(
    name: str, tmp_path: Path, published: Callable[[Path], None]
) -> None:
    path = write(name, tmp_path)
    published(path.parent)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    (said,) = check.check(name, tmp_path).problems
    assert said.startswith(f"{path} is not the published file: its md5 is ")


def test_published_checksums_are_complete() -> None:
    assert {name: len(files) for name, files in archives.PUBLISHED.items()} == {
        "cifar-10-batches-py": 7, "cifar-100-python": 3, "CIFAR-10-C": 20, "CIFAR-100-C": 20,
    }  # fmt: skip
    all_of = [one for files in archives.PUBLISHED.values() for one in files.values()]
    assert len(set(all_of)) == 50 and {len(one) for one in all_of} == {32}


def test_made_corruptions_have_no_published_checksum(tmp_path: Path) -> None:
    path = write("cifar10-c", tmp_path)
    assert check.check("cifar10-c", tmp_path).problems
    (path.parent / "made.json").write_text("{}")
    report = check.check("cifar10-c", tmp_path)
    assert not report.problems and any("made by tttlib" in line for line in report.lines)
    labels = path.with_name("labels.npy")
    labels.unlink()
    assert check.check("cifar10-c", tmp_path).problems == [f"{labels} is missing; fetch it again"]


def test_present_and_missing_corruptions(tmp_path: Path, published: Callable[[Path], None]) -> None:
    published(write("cifar10-c", tmp_path).parent)
    arrays = check.check("cifar10-c", tmp_path)
    assert "gaussian_noise" in arrays.missing and "fog" not in arrays.missing
    imagenet_c(tmp_path)
    grid = check.check("imagenet-c", tmp_path)
    assert "fog: severities 2, 3, 4" in grid.missing and "spatter" in grid.missing
    assert any(line == "fog: severities 1 (1 images), 5 (3 images)" for line in grid.lines)
    write("tiny-imagenet-c", tmp_path)
    small = check.check("tiny-imagenet-c", tmp_path)
    assert "snow: severities 1, 3, 4, 5" in small.missing and "fog" in small.missing
    assert "spatter" not in small.missing  # the release has 15


def test_counts_that_contradict(tmp_path: Path) -> None:
    path = cifar10_jpeg(tmp_path)

    def expecting(n: int) -> Report:
        report = Report("cifar10-jpeg", tmp_path)
        check._encoded(report, source=data.cifar10_jpeg.find_source, expected={"test": n})
        return report

    (said,) = expecting(2).problems
    assert said == f"{path}: 3 images of test, where 2 are published"
    write_cifar_jpeg(tmp_path, "test", [0, 0, *range(2, 10)])
    (said,) = expecting(10).problems
    assert said == f"{path}: 2 images of class 0 in test, where 1 are published"
    write_cifar_jpeg(tmp_path, "test", [*range(10)])
    assert expecting(10).problems == [] and expecting(10).missing == []
    write_cifar_jpeg(tmp_path, "test", [3, 10])
    (said,) = expecting(10).problems
    assert said == f"image 1 of {path} has the label 10, legal are 0..9"
    write_cifar_jpeg(tmp_path, "test", [])
    assert str(path) in expecting(10).problems[0]


def test_the_list_of_5000(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    imagenet_folders(tmp_path)
    assert any("would be the first 5" in said for said in check.check("imagenet", tmp_path).missing)
    path = tmp_path / imagenet.LIST_FILE
    path.write_text(f"{imagenet.wnids()[3]}/{official.val_name(3)}")
    (said,) = check.check("imagenet", tmp_path).problems
    assert str(path) in said and "sha256" in said
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(imagenet, "LIST_SHA256", digest)
    report = check.check("imagenet", tmp_path)
    assert not report.problems and any("the published list" in line for line in report.lines)


def test_odd_boxes() -> None:
    boxes = [
        [0, 0, 64, 64],  # all of it
        [5, 5, 6, 20],  # one pixel wide: xmax = xmin in the file
        [5, 9, 20, 8],  # upside down
        [-1, 0, 10, 10],
        [60, 60, 65, 62],
        [1, 0, 64, 64],
    ]
    report = Report("a name", Path())
    report.boxes("valid", torch.tensor(boxes), 64)
    report.boxes("test", torch.tensor(boxes[:0]).reshape(0, 4), 64)
    assert report.lines[0].startswith("valid: 6 boxes, 2 without area, 2 reach out of the image, 1")
    assert report.lines[1].startswith("test: 0 boxes, 0 without area")


def test_an_image_without_a_box(tmp_path: Path) -> None:
    few = [replace(photo, box=photo.box if i else None) for i, photo in enumerate(photos())]
    path = write_tiny_hub(tmp_path, "valid", few)
    (said,) = check.check("tiny-imagenet", tmp_path).problems
    assert said == f"{path}: 1 images of valid lack a box"


def test_many_problems_are_cut_short(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = [replace(photo, jpeg=b"") for photo in photos(30)]
    write_tiny_hub(tmp_path, "valid", bad)
    with pytest.raises(SystemExit):
        cli.main(["data", "check", "tiny-imagenet", "--root", str(tmp_path), "--classes"])
    out = capsys.readouterr().out
    assert out.count("damaged: image ") == 20 and "damaged: … and 10 more" in out
    assert "valid: 6 6 6 6 6" in out and "missing: train" in out
