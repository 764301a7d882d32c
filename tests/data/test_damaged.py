"""Damaged or missing files end in one named error that says which file, and what to do.

Each family has a function that writes an intact dataset, lets a change damage one file, and returns
how to load it and which file the message must name; the damages themselves are tables. Loading
includes decoding every image.
"""

from __future__ import annotations

import os
import pickle
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import official
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tttlib import data
from tttlib.boxes import read_voc
from tttlib.data import DamagedDataError, ImageSet, MissingDataError, imagenet

Change = Callable[[Path], object]
Load = Callable[[], ImageSet]
AGAIN, LINKS = "again", "check its permissions and links"


class Code:
    """Unpickling it makes the folder `ran` where the tests run."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("ran",)


# -- changes ---------------------------------------------------------------------------------------


def put(content: bytes | str) -> Change:
    return lambda path: path.write_bytes(
        content if isinstance(content, bytes) else content.encode()
    )


def cut(share: float) -> Change:
    return lambda path: path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])


def array(values: Any) -> Change:
    return lambda path: np.save(path, values, allow_pickle=True)


def edit(*pairs: str) -> Change:
    """Old text, new text, old text, …: each occurs."""

    def write(path: Path) -> None:
        text = path.read_text()
        for old, new in zip(pairs[::2], pairs[1::2], strict=True):
            assert old in text
            text = text.replace(old, new, 1)
        path.write_text(text)

    return write


def both(*changes: Change) -> Change:
    return lambda path: [change(path) for change in changes]


def loop(path: Path) -> None:
    """A link to itself."""
    path.rmdir() if path.is_dir() else path.unlink()
    path.symlink_to(path)


def column(name: str, values: Any) -> Change:
    def write(path: Path) -> None:
        table = pq.read_table(path)
        place = table.schema.get_field_index(name)
        pq.write_table(table.set_column(place, name, [values]), path)

    return write


def without(name: str) -> Change:
    return lambda path: pq.write_table(pq.read_table(path).drop([name]), path)


# -- families --------------------------------------------------------------------------------------


def arrays(root: Path, change: Change, file: str = "fog.npy", **options: Any) -> tuple[Load, Path]:
    official.write_cifar_c(root)
    change(root / "CIFAR-10-C" / file)
    options = {"corruption": "fog", **options}
    return lambda: data.load("cifar10-c", "test", root, **options), root / "CIFAR-10-C" / file


def pickles(root: Path, change: Change, file: str = "test_batch") -> tuple[Load, Path]:
    official.write_cifar10(root)
    change(root / "cifar-10-batches-py" / file)
    return lambda: data.load("cifar10", "test", root), root / "cifar-10-batches-py" / file


def images(root: Path, change: Change, **options: Any) -> tuple[Load, Path]:
    """The change gets one of five images; classes 7 (four images) and 998."""
    path = official.write_imagenet_c(root, {7: 4, 998: 1})[3][0]
    change(path)
    options = {"corruption": "fog", **options}
    return lambda: data.load("imagenet-c", "test", root, **options), path


def flat(root: Path, change: Change, file: str) -> tuple[Load, Path]:
    official.write_jpeg(root / "val" / official.val_name(3), 0, (300, 260))
    path = official.write_devkit(root, {3: 5}) / file
    change(path)
    return lambda: data.load("imagenet", "valid", root), path


def boxes(root: Path, change: Change) -> tuple[Load, Path]:
    """Two images with their annotations; the change gets the second one's."""
    folder = root / "ILSVRC2012_bbox_val_v3" / "val"
    for number, label in ((1, 5), (2, 6)):
        wnid, name = imagenet.wnids()[label], official.val_name(number)
        official.write_jpeg(root / "val" / wnid / name, number, (300, 260))
        path = official.write_voc(folder, Path(name).stem, (300, 260), [(wnid, (10, 20, 290, 240))])
    change(path)
    return lambda: data.load("imagenet", "valid", root, boxes=True), path


def one_annotation(root: Path, change: Change) -> tuple[Load, Path]:
    """What loading a data set repairs and counts is an error to whoever reads one file."""
    load, path = boxes(root, change)
    assert load().boxes is not None
    return lambda: read_voc(path), path  # type: ignore[return-value]


def table(root: Path, change: Change) -> tuple[Load, Path]:
    official.write_parquet(root / "a.parquet", [0, 1, 1])
    change(root / "a.parquet")
    return lambda: data.parquet(root / "a.parquet", image="photo", label="kind"), root / "a.parquet"


def tiny(root: Path, change: Change) -> tuple[Load, Path]:
    """The change gets the data root."""
    official.write_tiny_c(root)
    change(root)
    return lambda: data.load("tiny-imagenet-c", "test", root, corruption="fog"), root


def batch(side: int, n: int, labels: list[int]) -> Change:
    return put(official.python2(official.cifar_batch(official.pixels(n, 0, side), labels)))


def npz(path: Path) -> None:
    with path.open("wb") as stream:
        np.savez(stream, a=np.zeros((20, 32, 32, 3), "u1"))


def huge_npy(path: Path) -> None:
    header = {"descr": "|u1", "fortran_order": False, "shape": (5 << 60, 32, 32, 3)}
    with path.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, header)


def png_header(width: int, height: int) -> bytes:
    """A PNG of that size by its header, with pixels that are not there."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        crc = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", crc)

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(b"")), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def entity_bomb(path: Path) -> None:
    lines = [f'<!ENTITY a{i + 1} "{f"&a{i};" * 10}">' for i in range(9)]
    edit("Unspecified", "&a9;")(path)
    head = f'<!DOCTYPE annotation [<!ENTITY a0 "ha">{"".join(lines)}]>'
    path.write_text(head + path.read_text())


def entity_file(path: Path) -> None:
    (path.parent / "secret").write_text("secret")
    edit("Unspecified", "&file;")(path)
    head = f'<!DOCTYPE annotation [<!ENTITY file SYSTEM "{path.parent / "secret"}">]>'
    path.write_text(head + path.read_text())


STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
TRUTH, LABELS = "ILSVRC2012_validation_ground_truth.txt", "labels.npy"
WNID = [f"<name>{wnid}" for wnid in imagenet.wnids()[6:8]]

# family -> damage -> change, and further arguments of the family
DAMAGES: dict[Callable[..., tuple[Load, Path]], dict[str, tuple[Change, *tuple[str, ...]]]] = {
    arrays: {
        "cut": (cut(0.9),),
        "cut in its header": (cut(0.0006),),
        "empty": (put(b""),),
        "more than it says": (lambda path: path.write_bytes(path.read_bytes() + b"more"),),
        "claims to be huge": (huge_npy,),
        "another type": (array(np.zeros((20, 32, 32, 3), "f4")),),
        "another layout": (array(np.zeros((20, 3, 32, 32), "u1")),),
        "not divisible by five": (array(np.zeros((19, 32, 32, 3), "u1")),),
        "a scalar": (array(np.uint8(3)),),
        "code": (array(np.array([Code()], object)),),
        "npz": (npz,),
        "labels of another length": (array(np.zeros(4, "u1")), LABELS),
        "labels that are no whole numbers": (array(np.zeros(20)), LABELS),
        "labels of another dataset": (array(np.full(20, 10, "u1")), LABELS),
        "labels that differ by severity": (array(np.arange(20) % 10), LABELS),
    },
    pickles: {
        "code": (put(pickle.dumps({b"data": Code()}, 2)),),
        "code in the names": (put(pickle.dumps({b"label_names": Code()}, 4)), "batches.meta"),
        "cut": (cut(0.5),),
        "empty": (put(b""),),
        "an error page": (put("<html>404 not found</html>"),),
        "a list": (put(official.python2([1, 2])),),
        "no images": (put(official.python2({b"labels": [1]})),),
        "images of another size": (batch(28, 2, [1, 2]),),
        "a label too few": (batch(32, 3, [1, 2]),),
        "a label out of range": (batch(32, 2, [1, 10]),),
        "missing": (Path.unlink,),
    },
    images: {
        "cut in half": (cut(0.5),),
        "empty": (put(b""),),
        "text": (put("not found"),),
        "another size": (lambda path: official.write_jpeg(path, 0, (224, 223)),),
        "a folder": (both(Path.unlink, Path.mkdir),),
        "claims to be huge": (put(png_header(60_000, 60_000)),),
        "a link to itself": (loop,),
        "a link to nothing": (both(Path.unlink, lambda path: path.symlink_to("/none/at/all")),),
        "PostScript": (put("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 224 224\nshowpage\n"),),
    },
    flat: {
        "too short": (put("5\n" * 49_999), TRUTH),
        "out of range": (put("5\n" * 49_999 + "1001\n"), TRUTH),
        "bytes": (put(bytes(range(256)) * 500), TRUTH),
        "meta cut": (cut(0.5), "meta.mat"),
        "meta is text": (put("words " * 100), "meta.mat"),
    },
    boxes: {
        "missing": (Path.unlink,),
        "empty": (put(b""),),
        "cut": (cut(0.5),),
        "a jpeg": (lambda path: official.write_jpeg(path, 0),),
        "an error page": (put("<html><h1>404 not found</h1></html>"),),
        "an unknown encoding": (edit("<annotation>", '<?xml encoding="klingon"?><annotation>'),),
        "an entity bomb": (entity_bomb,),
        "the name of a file": (entity_file,),
        "too large": (edit("Unspecified", "a" * (1 << 20)),),
        "another image": (edit("val_00000002", "val_00000001"),),
        "no objects": (lambda path: official.write_voc(path.parent, path.stem, (300, 260), []),),
        "an object without box": (edit("<bndbox>", "<box>", "/bnd", "/"),),
        "no size": (edit("<width>300</width>", ""),),
        "no pixels": (edit("<width>300", "<width>0"),),
        "words as numbers": (edit("<xmax>290", "<xmax>wide"),),
        "a number that is none": (edit("<xmax>290", "<xmax>nan"),),
        "a box outside": (edit(">10<", ">400<", ">290<", ">500<"),),
        "another class": (edit(*WNID),),
        "a link to itself": (loop,),
        "a folder": (both(Path.unlink, Path.mkdir),),
    },
    one_annotation: {
        "a box that leaves the image": (edit("<xmax>290", "<xmax>301"),),
        "a box without area": (edit("<xmax>290", "<xmax>10"),),
    },
    table: {
        "no labels": (without("kind"),),
        "no images": (without("photo"),),
        "cut": (cut(0.5),),
        "words as labels": (column("kind", ["a", "b", "c"]),),
        "a label missing": (column("kind", [0, None, 1]),),
        "labels from 1": (column("kind", [1, 2, 2]),),
        "a label below 0": (column("kind", [0, 1, -1]),),
        "no bytes": (column("photo", pa.array([{"path": "1.png"}] * 3, STRUCT)),),
    },
}
CASES = [
    pytest.param(family, damage[0], damage[1:], id=f"{family.__name__}: {name}")
    for family, damages in DAMAGES.items()
    for name, damage in damages.items()
]


def refused(load: Load, kind: type[Exception], *said: object) -> None:
    with pytest.raises((MissingDataError, ValueError)) as caught:
        load().images[:]
    assert type(caught.value) is kind, caught.value
    message = str(caught.value)
    assert all(str(part) in message for part in said), message
    assert "\n" not in message and len(message) < 700
    assert not Path("ran").exists()


@pytest.mark.parametrize(("family", "change", "more"), CASES)
def test_a_damaged_file_is_named_with_a_remedy(
    family: Callable[..., tuple[Load, Path]],
    change: Change,
    more: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    load, path = family(tmp_path, change, *more)
    refused(load, DamagedDataError, path, "" if family is table else AGAIN)


# -- folders, options and what is missing ----------------------------------------------------------


def nothing(path: Path) -> None:
    pass


FOG = Path("ImageNet-C/fog/5")


def in_fog(name: str, change: Change) -> Change:
    """A change of a class folder beside those of the images."""
    return lambda path: change(path.parents[1] / name)


def unreadable(path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root reads every folder (see test_lookup.py)")
    path.parent.chmod(0)


def tsv(root: Path) -> None:
    (root / "tiny-imagenet-200" / "wnids.txt").unlink()
    (root / "tiny-imagenet-classes.tsv").write_text("0\tn01000002\tcat\n2\tn02000003\tdog\n")


def self_link(path: Path) -> None:
    path.symlink_to(path)


def drop(parent: int) -> Change:
    return lambda path: shutil.rmtree(path.parents[parent])


OTHERS: dict[str, tuple[Callable[[Path], tuple[Load, Any]], type[Exception], str, str]] = {
    # id: (how to load, error, what is named below the root, what else is said)
    "labels missing": (
        lambda r: arrays(r, Path.unlink, LABELS), MissingDataError, "CIFAR-10-C/labels.npy", ""),
    "corruption missing": (
        lambda r: arrays(r, Path.unlink), MissingDataError, "CIFAR-10-C/fog.npy", "again"),
    "corruption unknown": (
        lambda r: arrays(r, nothing, corruption="fig"), ValueError, "", "'fig'; legal are gauss"),
    "severity unknown": (
        lambda r: arrays(r, nothing, severity=6), ValueError, "", "1, 2, 3, 4, 5, not 6"),
    "dataset is a link to itself": (
        lambda r: (self_link(r / "CIFAR-10-C"), cifar_c(r))[1],
        MissingDataError, "CIFAR-10-C", "unpack"),
    "root missing": (
        lambda r: cifar_c(r / "none"), MissingDataError, "none/CIFAR-10-C", "https://zenodo.org"),
    "class folder is a link to itself": (
        lambda r: images(r, in_fog(imagenet.wnids()[500], self_link)),
        DamagedDataError, f"{FOG}/{imagenet.wnids()[500]}", LINKS),
    "class folder unknown": (
        lambda r: images(r, in_fog("n99999999", lambda p: official.write_jpeg(p / "1.JPEG", 0))),
        DamagedDataError, f"{FOG}/n99999999", "remove it"),
    "class folder empty": (
        lambda r: images(r, in_fog(imagenet.wnids()[500], Path.mkdir)),
        DamagedDataError, f"{FOG}/{imagenet.wnids()[500]}", "unpack"),
    "severity folder empty": (
        lambda r: images(r, lambda p: (drop(1)(p), (r / FOG).mkdir())),
        DamagedDataError, str(FOG), "unpack"),
    "severity folder missing": (
        lambda r: images(r, nothing, severity=3), MissingDataError, "ImageNet-C/fog/3", "unpack"),
    "folder unreadable": (
        lambda r: images(r, unreadable), DamagedDataError, "", imagenet.wnids()[7]),
    "list with another hash": (
        lambda r: images(r, lambda p: put("n0/a.JPEG")(r / imagenet.LIST_FILE), subset="5000"),
        DamagedDataError, imagenet.LIST_FILE, "or remove the file"),
    "subset unknown": (
        lambda r: images(r, nothing, subset="1000"), ValueError, "", "'1000'; legal are None"),
    "flat archive with a stranger": (
        lambda r: flat(r, lambda p: official.write_jpeg(r / "val/holiday.JPEG", 0), TRUTH),
        DamagedDataError, "val/holiday.JPEG", "remove it"),
    "imagenet folder empty": (
        lambda r: ((r / "val").mkdir(), (lambda: data.load("imagenet", "valid", r), r))[1],
        DamagedDataError, "val", "unpack"),
    "annotations missing": (
        lambda r: boxes(r, drop(1)), MissingDataError, "", "or load without boxes"),
    "annotations are a link to themselves": (
        lambda r: boxes(r, lambda p: (drop(0)(p), self_link(p.parent))),
        MissingDataError, "", "or load without boxes"),
    "annotations unreadable": (
        lambda r: boxes(r, unreadable), DamagedDataError, "", "check its permissions"),
    "tiny without the class list": (
        lambda r: tiny(r, lambda r: (r / "tiny-imagenet-200/wnids.txt").unlink()),
        MissingDataError, "", "Get tiny-imagenet-200.zip"),
    "tiny of another size": (
        lambda r: tiny(r, lambda r: official.write_tiny_c(r, side=32)),
        DamagedDataError, "Tiny-ImageNet-C/fog/5", "is 32x32, not 64x64; unpack"),
    "tiny with a misnumbered list": (
        lambda r: tiny(r, tsv),
        DamagedDataError, "tiny-imagenet-classes.tsv", "must number the labels from 0"),
    "own folder empty": (
        lambda r: ((r / "mine").mkdir(), mine(r))[1],
        DamagedDataError, "mine", "one sub-folder per class"),
    "own folder of loose images": (
        lambda r: (official.write_jpeg(r / "mine/1.jpg", 0), mine(r))[1],
        DamagedDataError, "mine", "one sub-folder per class"),
}  # fmt: skip


def cifar_c(root: Path) -> tuple[Load, Path]:
    return lambda: data.load("cifar10-c", "test", root, corruption="fog"), root


def mine(root: Path) -> tuple[Load, Path]:
    return lambda: data.folder(root / "mine"), root


@pytest.mark.parametrize("name", OTHERS)
def test_what_else_is_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make, kind, named, said = OTHERS[name]
    load, _ = make(tmp_path)
    refused(load, kind, tmp_path / named if named else "", said)
