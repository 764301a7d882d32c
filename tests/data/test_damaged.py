"""Damaged or missing files end in one named error that says which file, and what to do.

A case writes an intact dataset, damages it and returns how to load it and what the message must
name. Loading includes decoding every image.
"""

from __future__ import annotations

import os
import pickle
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import official
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tttlib import data
from tttlib.boxes import read_voc
from tttlib.data import DamagedDataError, ImageSet, MissingDataError, imagenet

Load = Callable[[], ImageSet]
Case = Callable[[Path], tuple[Load, str, str]]  # root -> load, what is named, the remedy

CASES: dict[str, tuple[type[Exception], Case]] = {}
AGAIN, FETCH, UNPACK = "again", "fetch it again", "unpack"


def case(error: type[Exception]) -> Callable[[Case], Case]:
    def register(one: Case) -> Case:
        CASES[one.__name__] = error, one
        return one

    return register


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TTTLIB_CACHE", str(tmp_path / "cache"))


# -- arrays of CIFAR-10-C --------------------------------------------------------------------------


def cifar_c(root: Path, **options: object) -> Load:
    return lambda: data.load("cifar10-c", "test", root, **{"corruption": "fog", **options})


def arrays(root: Path, file: str, change: Callable[[Path], object]) -> tuple[Load, str, str]:
    official.write_cifar_c(root)
    path = root / "CIFAR-10-C" / file
    change(path)
    return cifar_c(root), str(path), FETCH


def cut(path: Path, keep: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])


class Code:
    """Unpickling it leaves the file `ran`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


@case(DamagedDataError)
def npy_cut(root: Path) -> tuple[Load, str, str]:
    return arrays(root, "fog.npy", lambda path: cut(path, 0.9))


@case(DamagedDataError)
def npy_cut_in_its_header(root: Path) -> tuple[Load, str, str]:
    return arrays(root, "fog.npy", lambda path: path.write_bytes(path.read_bytes()[:40]))


@case(DamagedDataError)
def npy_empty(root: Path) -> tuple[Load, str, str]:
    return arrays(root, "fog.npy", lambda path: path.write_bytes(b""))


@case(DamagedDataError)
def npy_with_more_than_it_says(root: Path) -> tuple[Load, str, str]:
    return arrays(root, "fog.npy", lambda path: path.write_bytes(path.read_bytes() + b"more"))


@case(DamagedDataError)
def npy_that_claims_to_be_huge(root: Path) -> tuple[Load, str, str]:
    def write(path: Path) -> None:
        header = {"descr": "|u1", "fortran_order": False, "shape": (5 << 60, 32, 32, 3)}
        with path.open("wb") as stream:
            np.lib.format.write_array_header_1_0(stream, header)

    return arrays(root, "fog.npy", write)


@case(DamagedDataError)
def npy_of_another_type(root: Path) -> tuple[Load, str, str]:
    return arrays(root, "fog.npy", lambda path: np.save(path, np.zeros((20, 32, 32, 3), "f4")))


@case(DamagedDataError)
def npy_of_another_layout(root: Path) -> tuple[Load, str, str]:
    return arrays(root, "fog.npy", lambda path: np.save(path, np.zeros((20, 3, 32, 32), "u1")))


@case(DamagedDataError)
def npy_of_a_number_not_divisible_by_five(root: Path) -> tuple[Load, str, str]:
    return arrays(root, "fog.npy", lambda path: np.save(path, np.zeros((19, 32, 32, 3), "u1")))


@case(DamagedDataError)
def npy_of_a_scalar(root: Path) -> tuple[Load, str, str]:
    return arrays(root, "fog.npy", lambda path: np.save(path, np.uint8(3)))


@case(DamagedDataError)
def npy_with_code(root: Path) -> tuple[Load, str, str]:
    content = np.array([Code(root / "ran")], object)
    return arrays(root, "fog.npy", lambda path: np.save(path, content, allow_pickle=True))


@case(DamagedDataError)
def npz_in_place_of_npy(root: Path) -> tuple[Load, str, str]:
    def write(path: Path) -> None:
        with path.open("wb") as stream:
            np.savez(stream, a=np.zeros((20, 32, 32, 3), "u1"))

    return arrays(root, "fog.npy", write)


@case(DamagedDataError)
def labels_of_another_length(root: Path) -> tuple[Load, str, str]:
    return arrays(root, "labels.npy", lambda path: np.save(path, np.zeros(4, "u1")))


@case(DamagedDataError)
def labels_that_are_no_whole_numbers(root: Path) -> tuple[Load, str, str]:
    return arrays(root, "labels.npy", lambda path: np.save(path, np.zeros(20)))


@case(DamagedDataError)
def labels_of_another_dataset(root: Path) -> tuple[Load, str, str]:
    return arrays(root, "labels.npy", lambda path: np.save(path, np.full(20, 10, "u1")))


@case(DamagedDataError)
def labels_that_differ_by_severity(root: Path) -> tuple[Load, str, str]:
    return arrays(root, "labels.npy", lambda path: np.save(path, np.arange(20) % 10))


@case(MissingDataError)
def labels_missing(root: Path) -> tuple[Load, str, str]:
    return arrays(root, "labels.npy", Path.unlink)


@case(MissingDataError)
def corruption_missing(root: Path) -> tuple[Load, str, str]:
    return arrays(root, "fog.npy", Path.unlink)


@case(ValueError)
def corruption_unknown(root: Path) -> tuple[Load, str, str]:
    return cifar_c(root, corruption="fig"), "'fig'", "legal are gaussian_noise"


@case(ValueError)
def severity_unknown(root: Path) -> tuple[Load, str, str]:
    return cifar_c(root, severity=6), "not 6", "severities 1, 2, 3, 4, 5"


@case(MissingDataError)
def dataset_is_a_link_to_itself(root: Path) -> tuple[Load, str, str]:
    (root / "CIFAR-10-C").symlink_to(root / "CIFAR-10-C")
    return cifar_c(root), str(root / "CIFAR-10-C"), UNPACK


@case(MissingDataError)
def root_missing(root: Path) -> tuple[Load, str, str]:
    return cifar_c(root / "none"), str(root / "none" / "CIFAR-10-C"), "https://zenodo.org"


# -- pickles of CIFAR-10 ---------------------------------------------------------------------------


def batches(
    root: Path, change: Callable[[Path], object], file: str = "test_batch"
) -> tuple[Load, str, str]:
    official.write_cifar10(root)
    path = root / "cifar-10-batches-py" / file
    change(path)
    return lambda: data.load("cifar10", "test", root), str(path), "cifar-10-python.tar.gz again"


def batch(images: np.ndarray, labels: list[int]) -> Callable[[Path], object]:
    content = official.python2(official.cifar_batch(images, labels))
    return lambda path: path.write_bytes(content)


@case(DamagedDataError)
def pickle_with_code(root: Path) -> tuple[Load, str, str]:
    content = pickle.dumps({b"data": Code(root / "ran")}, 2)
    return batches(root, lambda path: path.write_bytes(content))


@case(DamagedDataError)
def pickle_with_code_in_the_names(root: Path) -> tuple[Load, str, str]:
    content = pickle.dumps({b"label_names": Code(root / "ran")}, 4)
    return batches(root, lambda path: path.write_bytes(content), "batches.meta")


@case(DamagedDataError)
def pickle_cut(root: Path) -> tuple[Load, str, str]:
    return batches(root, lambda path: cut(path, 0.5))


@case(DamagedDataError)
def pickle_empty(root: Path) -> tuple[Load, str, str]:
    return batches(root, lambda path: path.write_bytes(b""))


@case(DamagedDataError)
def pickle_is_an_error_page(root: Path) -> tuple[Load, str, str]:
    return batches(root, lambda path: path.write_text("<html>404 not found</html>"))


@case(DamagedDataError)
def pickle_of_a_list(root: Path) -> tuple[Load, str, str]:
    return batches(root, lambda path: path.write_bytes(official.python2([1, 2])))


@case(DamagedDataError)
def pickle_without_images(root: Path) -> tuple[Load, str, str]:
    return batches(root, lambda path: path.write_bytes(official.python2({b"labels": [1]})))


@case(DamagedDataError)
def pickle_of_images_of_another_size(root: Path) -> tuple[Load, str, str]:
    return batches(root, batch(official.pixels(2, 0, 28), [1, 2]))


@case(DamagedDataError)
def pickle_with_a_label_too_few(root: Path) -> tuple[Load, str, str]:
    return batches(root, batch(official.pixels(3, 0), [1, 2]))


@case(DamagedDataError)
def pickle_with_a_label_out_of_range(root: Path) -> tuple[Load, str, str]:
    return batches(root, batch(official.pixels(2, 0), [1, 10]))


@case(DamagedDataError)
def pickle_missing(root: Path) -> tuple[Load, str, str]:
    return batches(root, Path.unlink)


# -- folders of ImageNet-C -------------------------------------------------------------------------


def images(root: Path, change: Callable[[Path], object]) -> tuple[Load, str, str]:
    """`change` gets the last of five images; classes 7 (four images) and 998."""
    made = official.write_imagenet_c(root, {7: 4, 998: 1})
    path = made[3][0]
    change(path)
    return imagenet_c(root), str(path), UNPACK


def imagenet_c(root: Path, **options: object) -> Load:
    return lambda: data.load("imagenet-c", "test", root, **{"corruption": "fog", **options})


@case(DamagedDataError)
def jpeg_cut_in_half(root: Path) -> tuple[Load, str, str]:
    return images(root, lambda path: cut(path, 0.5))


@case(DamagedDataError)
def jpeg_empty(root: Path) -> tuple[Load, str, str]:
    return images(root, lambda path: path.write_bytes(b""))


@case(DamagedDataError)
def jpeg_is_text(root: Path) -> tuple[Load, str, str]:
    return images(root, lambda path: path.write_text("not found"))


@case(DamagedDataError)
def jpeg_of_another_size(root: Path) -> tuple[Load, str, str]:
    return images(root, lambda path: official.write_jpeg(path, 0, (224, 223)))


@case(DamagedDataError)
def jpeg_is_a_folder(root: Path) -> tuple[Load, str, str]:
    return images(root, lambda path: (path.unlink(), path.mkdir()))


@case(DamagedDataError)
def image_that_claims_to_be_huge(root: Path) -> tuple[Load, str, str]:
    header = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return images(root, lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk))


@case(DamagedDataError)
def jpeg_is_a_link_to_itself(root: Path) -> tuple[Load, str, str]:
    load, named, _ = images(root, lambda path: (path.unlink(), path.symlink_to(path)))
    return load, named, "check its permissions and links"


@case(DamagedDataError)
def jpeg_is_a_link_to_nothing(root: Path) -> tuple[Load, str, str]:
    return images(root, lambda path: (path.unlink(), path.symlink_to(root / "none")))


@case(DamagedDataError)
def class_folder_is_a_link_to_itself(root: Path) -> tuple[Load, str, str]:
    load, _, _ = images(root, lambda path: None)
    folder = root / "ImageNet-C" / "fog" / "5" / imagenet.wnids()[500]
    folder.symlink_to(folder)
    return load, str(folder), "check its permissions and links"


@case(DamagedDataError)
def class_folder_unknown(root: Path) -> tuple[Load, str, str]:
    load, _, _ = images(root, lambda path: None)
    stranger = root / "ImageNet-C" / "fog" / "5" / "n99999999"
    official.write_jpeg(stranger / official.val_name(1), 0)
    return load, str(stranger), "remove it"


@case(DamagedDataError)
def class_folder_empty(root: Path) -> tuple[Load, str, str]:
    load, _, _ = images(root, lambda path: None)
    folder = root / "ImageNet-C" / "fog" / "5" / imagenet.wnids()[500]
    folder.mkdir()
    return load, str(folder), UNPACK


@case(DamagedDataError)
def severity_folder_empty(root: Path) -> tuple[Load, str, str]:
    folder = root / "ImageNet-C" / "fog" / "5"
    folder.mkdir(parents=True)
    return imagenet_c(root), str(folder), UNPACK


@case(MissingDataError)
def severity_folder_missing(root: Path) -> tuple[Load, str, str]:
    images(root, lambda path: None)
    return imagenet_c(root, severity=3), str(root / "ImageNet-C" / "fog" / "3"), UNPACK


@case(DamagedDataError)
def folder_unreadable(root: Path) -> tuple[Load, str, str]:
    if os.geteuid() == 0:
        pytest.skip("root reads every folder (see test_lookup.py)")
    load, _, _ = images(root, lambda path: path.parent.chmod(0))
    return load, imagenet.wnids()[7], "check its permissions"


@case(DamagedDataError)
def list_with_another_hash(root: Path) -> tuple[Load, str, str]:
    images(root, lambda path: None)
    (root / imagenet.LIST_FILE).write_text("n01440764/ILSVRC2012_val_00000293.JPEG")
    return imagenet_c(root, subset="5000"), str(root / imagenet.LIST_FILE), "or remove the file"


@case(ValueError)
def subset_unknown(root: Path) -> tuple[Load, str, str]:
    images(root, lambda path: None)
    return imagenet_c(root, subset="1000"), "'1000'", 'legal are None and "5000"'


# -- the flat archive of ImageNet ------------------------------------------------------------------


def flat(root: Path, file: str, change: Callable[[Path], object]) -> tuple[Load, str, str]:
    official.write_jpeg(root / "val" / official.val_name(3), 0, (300, 260))
    path = official.write_devkit(root, {3: 5}) / file
    change(path)
    return lambda: data.load("imagenet", "valid", root), str(path), "devkit_t12.tar.gz again"


TRUTH = "ILSVRC2012_validation_ground_truth.txt"


@case(DamagedDataError)
def ground_truth_too_short(root: Path) -> tuple[Load, str, str]:
    return flat(root, TRUTH, lambda path: path.write_text("5\n" * 49_999))


@case(DamagedDataError)
def ground_truth_out_of_range(root: Path) -> tuple[Load, str, str]:
    return flat(root, TRUTH, lambda path: path.write_text("5\n" * 49_999 + "1001\n"))


@case(DamagedDataError)
def ground_truth_of_bytes(root: Path) -> tuple[Load, str, str]:
    return flat(root, TRUTH, lambda path: path.write_bytes(bytes(range(256)) * 500))


@case(DamagedDataError)
def meta_cut(root: Path) -> tuple[Load, str, str]:
    return flat(root, "meta.mat", lambda path: cut(path, 0.5))


@case(DamagedDataError)
def meta_is_text(root: Path) -> tuple[Load, str, str]:
    return flat(root, "meta.mat", lambda path: path.write_text("words " * 100))


@case(DamagedDataError)
def flat_archive_with_a_stranger(root: Path) -> tuple[Load, str, str]:
    load, _, _ = flat(root, TRUTH, lambda path: None)
    path = official.write_jpeg(root / "val" / "holiday.JPEG", 0)
    return load, str(path), "remove it"


@case(DamagedDataError)
def imagenet_folder_empty(root: Path) -> tuple[Load, str, str]:
    (root / "val").mkdir()
    return lambda: data.load("imagenet", "valid", root), str(root / "val"), UNPACK


# -- boxes of ImageNet -----------------------------------------------------------------------------


def boxes(root: Path, change: Callable[[Path], object], **options: object) -> tuple[Load, str, str]:
    """Two images with their annotations; `change` gets the second one's."""
    folder = root / "ILSVRC2012_bbox_val_v3" / "val"
    for number, label in ((1, 5), (2, 6)):
        wnid, name = imagenet.wnids()[label], official.val_name(number)
        official.write_jpeg(root / "val" / wnid / name, number, (300, 260))
        path = official.write_voc(folder, Path(name).stem, (300, 260), [(wnid, (10, 20, 290, 240))])
    change(path)
    load = lambda: data.load("imagenet", "valid", root, boxes=True)  # noqa: E731
    return load, str(path), "unpack the annotations again"


def edit(old: str, new: str) -> Callable[[Path], object]:
    def write(path: Path) -> None:
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    return write


@case(DamagedDataError)
def xml_missing(root: Path) -> tuple[Load, str, str]:
    return boxes(root, Path.unlink)


@case(DamagedDataError)
def xml_empty(root: Path) -> tuple[Load, str, str]:
    return boxes(root, lambda path: path.write_bytes(b""))


@case(DamagedDataError)
def xml_cut(root: Path) -> tuple[Load, str, str]:
    return boxes(root, lambda path: cut(path, 0.5))


@case(DamagedDataError)
def xml_is_a_jpeg(root: Path) -> tuple[Load, str, str]:
    return boxes(root, lambda path: official.write_jpeg(path, 0))


@case(DamagedDataError)
def xml_is_an_error_page(root: Path) -> tuple[Load, str, str]:
    return boxes(root, lambda path: path.write_text("<html><h1>404 not found</h1></html>"))


@case(DamagedDataError)
def xml_of_an_unknown_encoding(root: Path) -> tuple[Load, str, str]:
    head = '<?xml version="1.0" encoding="klingon"?>'
    return boxes(root, lambda path: path.write_text(head + path.read_text()))


@case(DamagedDataError)
def xml_with_an_entity_bomb(root: Path) -> tuple[Load, str, str]:
    lines = [f'<!ENTITY a{i + 1} "{f"&a{i};" * 10}">' for i in range(9)]
    bomb = f'<!DOCTYPE annotation [<!ENTITY a0 "ha">{"".join(lines)}]>'

    def write(path: Path) -> None:
        edit("Unspecified", "&a9;")(path)
        path.write_text(bomb + path.read_text())

    return boxes(root, write)


@case(DamagedDataError)
def xml_that_names_a_file(root: Path) -> tuple[Load, str, str]:
    secret = root / "secret"
    secret.write_text("secret")

    def write(path: Path) -> None:
        edit("Unspecified", "&file;")(path)
        head = f'<!DOCTYPE annotation [<!ENTITY file SYSTEM "{secret}">]>'
        path.write_text(head + path.read_text())

    return boxes(root, write)


@case(DamagedDataError)
def xml_too_large(root: Path) -> tuple[Load, str, str]:
    return boxes(root, edit("Unspecified", "a" * (1 << 20)))


@case(DamagedDataError)
def xml_of_another_image(root: Path) -> tuple[Load, str, str]:
    return boxes(root, edit("val_00000002", "val_00000001"))


@case(DamagedDataError)
def xml_without_boxes(root: Path) -> tuple[Load, str, str]:
    def write(path: Path) -> None:
        official.write_voc(path.parent, path.stem, (300, 260), [])

    return boxes(root, write)


@case(DamagedDataError)
def xml_with_an_object_without_box(root: Path) -> tuple[Load, str, str]:
    return boxes(root, lambda path: (edit("<bndbox>", "<box>")(path), edit("/bnd", "/")(path)))


@case(DamagedDataError)
def xml_without_size(root: Path) -> tuple[Load, str, str]:
    return boxes(root, edit("<width>300</width>", ""))


@case(DamagedDataError)
def xml_of_an_image_without_pixels(root: Path) -> tuple[Load, str, str]:
    return boxes(root, edit("<width>300", "<width>0"))


@case(DamagedDataError)
def xml_with_words_as_numbers(root: Path) -> tuple[Load, str, str]:
    return boxes(root, edit("<xmax>290", "<xmax>wide"))


@case(DamagedDataError)
def xml_with_a_number_that_is_none(root: Path) -> tuple[Load, str, str]:
    return boxes(root, edit("<xmax>290", "<xmax>nan"))


@case(DamagedDataError)
def box_outside_the_image(root: Path) -> tuple[Load, str, str]:
    return boxes(root, lambda path: (edit(">10<", ">400<")(path), edit(">290<", ">500<")(path)))


@case(DamagedDataError)
def box_that_leaves_the_image(root: Path) -> tuple[Load, str, str]:
    return strictly(*boxes(root, edit("<xmax>290", "<xmax>301")))


@case(DamagedDataError)
def box_without_area(root: Path) -> tuple[Load, str, str]:
    return strictly(*boxes(root, edit("<xmax>290", "<xmax>10")))


def strictly(load: Load, path: str, remedy: str) -> tuple[Load, str, str]:
    """What loading a data set repairs and counts is an error to whoever reads one file."""
    assert load().boxes is not None
    return lambda: read_voc(path), path, remedy  # type: ignore[return-value]


@case(DamagedDataError)
def boxes_of_another_class(root: Path) -> tuple[Load, str, str]:
    load, path, _ = boxes(root, edit(imagenet.wnids()[6], imagenet.wnids()[7]))
    return load, path, "unpack both archives again"


@case(DamagedDataError)
def xml_is_a_link_to_itself(root: Path) -> tuple[Load, str, str]:
    load, path, _ = boxes(root, lambda path: (path.unlink(), path.symlink_to(path)))
    return load, path, "check its permissions and links"


@case(DamagedDataError)
def xml_is_a_folder(root: Path) -> tuple[Load, str, str]:
    load, path, _ = boxes(root, lambda path: (path.unlink(), path.mkdir()))
    return load, path, "check its permissions and links"


@case(MissingDataError)
def annotations_missing(root: Path) -> tuple[Load, str, str]:
    load, _, _ = boxes(root, lambda path: shutil.rmtree(path.parent.parent))
    return load, "ILSVRC2012_bbox_val_v3/val", "or load without boxes"


@case(MissingDataError)
def annotations_are_a_link_to_themselves(root: Path) -> tuple[Load, str, str]:
    def loop(path: Path) -> None:
        shutil.rmtree(path.parent)
        path.parent.symlink_to(path.parent)

    load, _, _ = boxes(root, loop)
    return load, str(root), "or load without boxes"


@case(DamagedDataError)
def annotations_unreadable(root: Path) -> tuple[Load, str, str]:
    if os.geteuid() == 0:
        pytest.skip("root reads every folder (see test_lookup.py)")
    load, path, _ = boxes(root, lambda path: path.parent.chmod(0))
    return load, str(Path(path).parent), "check its permissions"


# -- Tiny-ImageNet-C, plain folders and parquet ----------------------------------------------------


@case(MissingDataError)
def tiny_without_the_class_list(root: Path) -> tuple[Load, str, str]:
    official.write_tiny_c(root)
    (root / "tiny-imagenet-200" / "wnids.txt").unlink()
    load = lambda: data.load("tiny-imagenet-c", "test", root, corruption="fog")  # noqa: E731
    return load, "wnids.txt", "Get tiny-imagenet-200.zip"


@case(DamagedDataError)
def tiny_of_another_size(root: Path) -> tuple[Load, str, str]:
    made = official.write_tiny_c(root, side=32)
    load = lambda: data.load("tiny-imagenet-c", "test", root, corruption="fog")  # noqa: E731
    return load, str(made[0][0]), UNPACK


@case(DamagedDataError)
def tiny_with_a_misnumbered_list(root: Path) -> tuple[Load, str, str]:
    official.write_tiny_c(root)
    (root / "tiny-imagenet-200" / "wnids.txt").unlink()
    path = root / "tiny-imagenet-classes.tsv"
    path.write_text("0\tn01000002\tcat\n2\tn02000003\tdog\n")
    load = lambda: data.load("tiny-imagenet-c", "test", root, corruption="fog")  # noqa: E731
    return load, str(path), "must number the labels from 0"


@case(DamagedDataError)
def plain_folder_empty(root: Path) -> tuple[Load, str, str]:
    (root / "mine").mkdir()
    return lambda: data.folder(root / "mine"), str(root / "mine"), "one sub-folder per class"


@case(DamagedDataError)
def plain_folder_of_loose_images(root: Path) -> tuple[Load, str, str]:
    official.write_jpeg(root / "mine" / "1.jpg", 0)
    return lambda: data.folder(root / "mine"), str(root / "mine"), "one sub-folder per class"


def table(root: Path, change: Callable[[Path], object]) -> tuple[Load, str, str]:
    path = root / "a.parquet"
    official.write_parquet(path, [0, 1, 1])
    change(path)
    return lambda: data.parquet(path, image="photo", label="kind"), str(path), FETCH


def column(name: str, values: list[object]) -> Callable[[Path], object]:
    def write(path: Path) -> None:
        found = pq.read_table(path)
        pq.write_table(found.set_column(found.schema.get_field_index(name), name, [values]), path)

    return write


@case(DamagedDataError)
def parquet_without_the_label(root: Path) -> tuple[Load, str, str]:
    return table(root, lambda path: pq.write_table(pq.read_table(path).drop(["kind"]), path))


@case(DamagedDataError)
def parquet_without_the_image(root: Path) -> tuple[Load, str, str]:
    return table(root, lambda path: pq.write_table(pq.read_table(path).drop(["photo"]), path))


@case(DamagedDataError)
def parquet_cut(root: Path) -> tuple[Load, str, str]:
    return table(root, lambda path: cut(path, 0.5))


@case(DamagedDataError)
def parquet_with_words_as_labels(root: Path) -> tuple[Load, str, str]:
    return table(root, column("kind", ["a", "b", "c"]))


@case(DamagedDataError)
def parquet_with_a_label_missing(root: Path) -> tuple[Load, str, str]:
    return table(root, column("kind", [0, None, 1]))


@case(DamagedDataError)
def parquet_without_bytes(root: Path) -> tuple[Load, str, str]:
    kinds = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    return table(root, column("photo", pa.array([{"path": "1.png"}] * 3, kinds)))  # type: ignore[arg-type]


# -- the test --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_damage(name: str, tmp_path: Path) -> None:
    kind, write = CASES[name]
    load, named, remedy = write(tmp_path)
    with pytest.raises((MissingDataError, ValueError)) as caught:
        load().images[:]
    assert type(caught.value) is kind, caught.value
    message = str(caught.value)
    assert named in message and remedy in message, message
    assert "\n" not in message and len(message) < 700
    assert not (tmp_path / "ran").exists()


def test_there_are_enough_kinds() -> None:
    assert len(CASES) >= 40
