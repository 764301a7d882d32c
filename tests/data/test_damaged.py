"""Damaged or missing files end in one named error that says which file, and what to do.

Each family has a function that writes an intact dataset, lets a change damage one file, and returns
how to load it and which file the message must name; the damages themselves are tables. Loading
includes decoding every image. Nothing half decoded is left behind.
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
from tttlib.data import DamagedDataError, ImageSet, MissingDataError, cifar, imagenet

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


def nothing(path: Path) -> None:
    pass


def both(*changes: Change) -> Change:
    return lambda path: [change(path) for change in changes]


def self_link(path: Path) -> None:
    """A link to itself in place of what is there."""
    path.rmdir() if path.is_dir() else path.unlink(missing_ok=True)
    path.symlink_to(path)


def rewritten(change: Callable[[pa.Table], pa.Table]) -> Change:
    return lambda path: pq.write_table(change(pq.read_table(path)), path)


def column(name: str, values: Any) -> Change:
    return rewritten(lambda t: t.set_column(t.schema.get_field_index(name), name, [values]))


def without(name: str) -> Change:
    return rewritten(lambda t: t.drop([name]))


def row(number: int, **changed: Any) -> Change:
    """Other values in one row of a parquet file."""

    def change(table: pa.Table) -> pa.Table:
        rows = table.to_pylist()
        rows[number] |= changed
        return pa.Table.from_pylist(rows, table.schema)

    return rewritten(change)


def stored(content: bytes) -> Change:
    """Other content of the fifth image of a parquet file."""
    return row(4, image={"bytes": content, "path": ""})


NO_ROWS = rewritten(lambda table: table[:0])


# -- families --------------------------------------------------------------------------------------


def of(root: Path, name: str, split: str = "test", **options: Any) -> tuple[Load, Path]:
    return lambda: data.load(name, split, root, **options), root


def arrays(root: Path, change: Change, file: str = "fog.npy", **options: Any) -> tuple[Load, Path]:
    official.write_cifar_c(root)
    path = root / "CIFAR-10-C" / file
    change(path)
    return of(root, "cifar10-c", **{"corruption": "fog", **options})[0], path


def pickles(root: Path, change: Change, file: str = "test_batch") -> tuple[Load, Path]:
    official.write_cifar(root)
    path = root / "cifar-10-batches-py" / file
    change(path)
    return of(root, "cifar10")[0], path


def images(root: Path, change: Change, **options: Any) -> tuple[Load, Path]:
    """The change gets one of five images; classes 7 (four images) and 998."""
    path = official.write_imagenet_c(root, {7: 4, 998: 1})[3][0]
    change(path)
    return of(root, "imagenet-c", **{"corruption": "fog", **options})[0], path


def flat(root: Path, change: Change, file: str) -> tuple[Load, Path]:
    official.write_jpeg(root / "val" / official.val_name(3), 0, (300, 260))
    path = official.write_devkit(root, {3: 5}) / file
    change(path)
    return of(root, "imagenet", "valid")[0], path


def boxes(root: Path, change: Change, **options: Any) -> tuple[Load, Path]:
    """Two images with their annotations; the change gets the second one's."""
    folder = root / "ILSVRC2012_bbox_val_v3" / "val"
    for number, label in ((1, 5), (2, 6)):
        wnid, name = imagenet.wnids()[label], official.val_name(number)
        official.write_jpeg(root / "val" / wnid / name, number, (300, 260))
        path = official.write_voc(folder, Path(name).stem, (300, 260), [(wnid, (10, 20, 290, 240))])
    change(path)
    return of(root, "imagenet", "valid", **{"boxes": True, **options})[0], path


def one_annotation(root: Path, change: Change) -> tuple[Load, Path]:
    """What loading a data set repairs and counts is an error to whoever reads one file."""
    load, path = boxes(root, change)
    assert load().boxes is not None
    return lambda: read_voc(path), path  # type: ignore[return-value]


def table(root: Path, change: Change, labels: Any = (0, 1, 1), **options: Any) -> tuple[Load, Path]:
    path = root / "a.parquet"
    official.write_parquet(path, list(labels))
    change(path)
    return lambda: data.parquet(path, image="photo", label="kind", **options), path


def jpegs(root: Path, change: Change, *labels: Any, **how: Any) -> tuple[Load, Path]:
    path = official.write_cifar_jpeg(root, "test", list(labels or [3, 9]), **how)
    change(path)
    return of(root, "cifar10-jpeg")[0], path


def hub(root: Path, change: Change, split: str = "valid") -> tuple[Load, Path]:
    path = official.write_tiny_hub(root, split, official.photos())
    change(path)
    return of(root, "tiny-imagenet", split.partition("-")[0])[0], path


def tiny(root: Path, change: Change, split: str, file: str) -> tuple[Load, Path]:
    path = official.write_tiny(root, official.photos(), official.photos()) / file
    change(path)
    return of(root, "tiny-imagenet", split)[0], path


def tiny_c(root: Path, change: Change) -> tuple[Load, Path]:
    """The change gets the data root."""
    official.write_tiny_c(root)
    change(root)
    return of(root, "tiny-imagenet-c", corruption="fog")


def batch(side: int, n: int, labels: list[int]) -> Change:
    return put(official.python2(official.cifar_batch(official.pixels(n, 0, side), labels)))


def npz(path: Path) -> None:
    with path.open("wb") as stream:
        np.savez(stream, a=np.zeros((20, 32, 32, 3), "u1"))


def npy(kind: str, shape: tuple[int, ...], content: bytes = b"") -> Change:
    def write(path: Path) -> None:
        with path.open("wb") as stream:
            header = {"descr": kind, "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(stream, header)
            stream.write(content)

    return write


def zero_page(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    middle = len(raw) // 2
    raw[middle : middle + 4000] = bytes(4000)  # the footer stays whole
    path.write_bytes(raw)


def png_header(width: int, height: int) -> bytes:
    """A PNG of that size by its header, with pixels that are not there."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        crc = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", crc)

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(b"")), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def entity(declared: str) -> Change:
    """Declarations, the last of them of `&it;`, which stands in the annotation."""
    document = f"<!DOCTYPE annotation [{declared}]><annotation>"
    return edit("Unspecified", "&it;", "<annotation>", document)


BOMB = [f'<!ENTITY a{i + 1} "{f"&a{i};" * 10}">' for i in range(9)]


STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
TRUTH, LABELS = "ILSVRC2012_validation_ground_truth.txt", "labels.npy"
WNID = [f"<name>{wnid}" for wnid in imagenet.wnids()[6:8]]
OTHER = [name.encode() for name in (*cifar.CLASSES_10[1:], "airplane")]
TRAIN, VALID = "train/{0}/images/{0}_1.JPEG".format(official.ORDER[1]), "val/images/val_3.JPEG"
BOXES, LIST = "train/{0}/{0}_boxes.txt".format(official.ORDER[1]), "val/val_annotations.txt"

# family -> damage -> change, and further arguments of the family
DAMAGES: dict[Callable[..., tuple[Load, Path]], dict[str, tuple[Change, *tuple[str, ...]]]] = {
    arrays: {
        "cut": (cut(0.9),),
        "cut in its header": (cut(0.0006),),
        "empty": (put(b""),),
        "more than it says": (lambda path: path.write_bytes(path.read_bytes() + b"more"),),
        "claims to be huge": (npy("|u1", (5 << 60, 32, 32, 3)),),
        "another type": (array(np.zeros((20, 32, 32, 3), "f4")),),
        "another layout": (array(np.zeros((20, 3, 32, 32), "u1")),),
        "not divisible by five": (array(np.zeros((19, 32, 32, 3), "u1")),),
        "a scalar": (array(np.uint8(3)),),
        "code": (array(np.array([Code()], object)),),
        "addresses": (npy("|O", (1,), b"\x01" * 8),),
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
        "other classes": (put(official.python2({b"label_names": OTHER})), "batches.meta"),
    },
    images: {
        "cut in half": (cut(0.5),),
        "empty": (put(b""),),
        "text": (put("not found"),),
        "another size": (lambda path: official.write_jpeg(path, 0, (224, 223)),),
        "a folder": (both(Path.unlink, Path.mkdir),),
        "claims to be huge": (put(png_header(60_000, 60_000)),),
        "a link to itself": (self_link,),
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
        "an entity bomb": (entity('<!ENTITY a0 "ha">' + "".join(BOMB) + '<!ENTITY it "&a9;">'),),
        "the name of a file": (entity(f'<!ENTITY it SYSTEM "{__file__}">'),),
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
        "a link to itself": (self_link,),
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
        "no rows": (NO_ROWS,),
    },
    jpegs: {
        "a label out of range": (nothing, 1, 10),
        "another column": (without("img"),),
    },
    hub: {
        "empty": (put(b""),),
        "cut": (cut(0.5),),
        "cut at its end": (cut(0.99),),
        "its second part cut": (cut(0.95), "train-1"),
        "a damaged page": (zero_page,),
        "something else": (lambda path: pq.write_table(pa.table({"text": ["a"]}), path),),
        "an image of another size": (stored(official.tiny_jpeg(0, size=(64, 48))),),
        "a cut image": (stored(official.tiny_jpeg(0)[:300]),),
        "no image": (stored(b"no image"),),
        "an empty image": (stored(b""),),
        "a label below 0": (row(3, label=-1),),
        "a label too large": (row(3, label=5),),
        "no rows": (NO_ROWS,),
    },
    tiny: {
        "a listed image missing": (Path.unlink, "train", TRAIN),
        "a listed image missing in valid": (Path.unlink, "valid", VALID),
        "an image of another size": (put(official.tiny_jpeg(0, size=(64, 48))), "valid", VALID),
        "a cut image": (cut(0.3), "valid", VALID),
        "an empty image": (put(b""), "train", TRAIN),
        "boxes missing": (Path.unlink, "train", BOXES),
        "boxes cut": (cut(0.9), "train", BOXES),
        "a box in words": (edit("\t63", "\tsixty"), "train", BOXES),
        "list missing": (Path.unlink, "valid", LIST),
        "list cut": (cut(0.99), "valid", LIST),
        "an unknown class": (edit(official.ORDER[2], "n99999999"), "valid", LIST),
    },
}
NO_REMEDY = (table, jpegs, hub, tiny)  # of some of these
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
    assert "\n" not in message and len(message.replace(str(Path.cwd()), "")) < 700
    assert not Path("ran").exists() and not [*Path("cache").rglob("*.u8")]


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
    refused(load, DamagedDataError, path, "" if family in NO_REMEDY else AGAIN)


# -- folders, options and what is missing ----------------------------------------------------------


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


def drop(parent: int) -> Change:
    return lambda path: shutil.rmtree(path.parents[parent])


# dataset, split, what is named below the root that holds nothing, what else is said
NOT_THERE = [
    ("imagenet", "valid", "ImageNet/val", "image-net.org"),
    ("imagenet-c", "test", "ImageNet-C", "zenodo.org/records/2235448"),
    ("tiny-imagenet-c", "test", "Tiny-ImageNet-C", "zenodo.org/records/2536630"),
    ("cifar100-c", "test", "CIFAR-100-C", "https://zenodo.org/records/3555552"),
    ("tiny-imagenet-50", "valid", "", "does not exist, so there is neither tiny-imagenet-valid*"),
    ("cifar10-jpeg", "train", "", "no cifar10-jpeg-train*.parquet"),
]
Missing, Damaged = MissingDataError, DamagedDataError
OTHERS: list[tuple[Callable[[Path], tuple[Load, Any]], type[Exception], str, str]] = [
    # how to load, error, what is named below the root, what else is said
    (lambda r: arrays(r, Path.unlink, LABELS), Missing, "CIFAR-10-C/labels.npy", ""),
    (lambda r: arrays(r, Path.unlink), Missing, "CIFAR-10-C/fog.npy", "again"),
    *((lambda r, o=options: arrays(r, nothing, **o), ValueError, "", said)
      for options, said in (
           ({"corruption": None}, "needs corruption=; legal are gaussian_no"),
           ({"corruption": "fig"}, "'fig'; legal are gauss"),
           ({"severity": 6}, "1, 2, 3, 4, 5, not 6"),
           ({"severity": 2.5}, "use ImageSet.corrupted"), ({"severity": True}, "not True"),
           ({"level": 2}, "'level'; it has corruption, sev"))),
    (lambda r: (self_link(r / "CIFAR-10-C"), of(r, "cifar10-c", corruption="fog"))[1],
     Missing, "CIFAR-10-C", "unpack"),
    *((lambda r, name=name, split=split: of(
            r / "none", name, split, **({"corruption": "fog"} if name.endswith("-c") else {})),
       Missing, f"none/{named}".rstrip("/"), said)
      for name, split, named, said in NOT_THERE),
    (lambda r: (hub(r, nothing), of(r, "tiny-imagenet", "train"))[1],
     Missing, "", "holds neither tiny-imagenet-train*.parquet"),
    *((lambda r, name=name, split=split: of(r, name, split),
       ValueError, "", f"unknown split {split!r} of {name!r}; it has {served}")
      for name, split, served in (
           ("cifar10-jpeg", "valid", "train, test"), ("imagenet", "train", "valid"),
           ("cifar10-c", "train", "test"), ("tiny-imagenet", "test", "train, valid"))),
    *((lambda r, kind=kind: jpegs(r, nothing, kind=kind), Damaged, "", "the set cifar10,")
      for kind in ("PNG", "WEBP", "BMP")),
    (lambda r: jpegs(r, nothing, side=28), Damaged, "", "is 28x28, not 32x32"),
    (lambda r: images(r, in_fog(imagenet.wnids()[500], self_link)),
     Damaged, f"{FOG}/{imagenet.wnids()[500]}", LINKS),
    (lambda r: images(r, in_fog("n99999999", lambda p: official.write_jpeg(p / "1.JPEG", 0))),
     Damaged, f"{FOG}/n99999999", "remove it"),
    (lambda r: images(r, in_fog(imagenet.wnids()[500], Path.mkdir)),
     Damaged, f"{FOG}/{imagenet.wnids()[500]}", "unpack"),
    (lambda r: images(r, lambda p: (drop(1)(p), (r / FOG).mkdir())), Damaged, str(FOG), "unpack"),
    (lambda r: images(r, nothing, corruption="snow"),
     Missing, "ImageNet-C has no folder snow", "looked there and in noise, blur"),
    (lambda r: images(r, nothing, severity=3), Missing, "ImageNet-C/fog/3", "unpack"),
    (lambda r: images(r, unreadable), Damaged, "", imagenet.wnids()[7]),
    (lambda r: images(r, lambda p: put("n0/a.JPEG")(r / imagenet.LIST_FILE), subset="5000"),
     Damaged, imagenet.LIST_FILE, "or remove the file"),
    (lambda r: images(r, nothing, subset=5000), ValueError, "", '5000; legal are None and "50'),
    (lambda r: flat(r, Path.unlink, TRUTH), Missing, "ILSVRC2012_devkit_t12", TRUTH),
    (lambda r: flat(r, lambda p: official.write_jpeg(r / "val/holiday.JPEG", 0), TRUTH),
     Damaged, "val/holiday.JPEG", "remove it"),
    (lambda r: ((r / "val").mkdir(), (lambda: data.load("imagenet", "valid", r), r))[1],
     Damaged, "val", "unpack"),
    (lambda r: boxes(r, drop(1)), Missing, "", "or load without boxes"),
    (lambda r: boxes(r, lambda p: (drop(0)(p), self_link(p.parent))),
     Missing, "", "or load without boxes"),
    (lambda r: boxes(r, unreadable), Damaged, "", "check its permissions"),
    (lambda r: tiny_c(r, lambda r: (r / "tiny-imagenet-200/wnids.txt").unlink()),
     Missing, "", "Get tiny-imagenet-200.zip"),
    (lambda r: tiny_c(r, lambda r: official.write_tiny_c(r, side=32)),
     Damaged, "Tiny-ImageNet-C/fog/5", "is 32x32, not 64x64; unpack"),
    (lambda r: tiny_c(r, tsv),
     Damaged, "tiny-imagenet-classes.tsv", "must number the labels from 0"),
    (lambda r: mine(r), Missing, "mine", "one that has a sub-folder per class"),
    (lambda r: ((r / "mine").mkdir(), mine(r))[1], Damaged, "mine", "one sub-folder per class"),
    (lambda r: (official.write_jpeg(r / "mine/1.jpg", 0), mine(r))[1],
     Damaged, "mine", "one sub-folder per class"),
    (lambda r: (official.write_jpeg(r / "mine/a/1.jpg", 0, (30, 20)), mine(r))[1],
     ValueError, "mine/a/1.jpg is 30x20, not square", "-p preprocess resize256-bicubic"),
    (lambda r: (lambda: data.parquet([]), r), Missing, "", "none giv"),
    (lambda r: (lambda: data.parquet(r / "none"), r), Missing, "none", "give the pa"),
    (lambda r: table(r, nothing, size=8), Damaged, "a.parquet", "is 16x16, not 8x8"),
    (lambda r: table(r, nothing, [-1, 0], classes=["a", "b"]),
     Damaged, "a.parquet", "labels must lie in 0..1"),
]  # fmt: skip


def mine(root: Path, **options: Any) -> tuple[Load, Path]:
    return lambda: data.folder(root / "mine", **options), root


@pytest.mark.parametrize(("make", "kind", "named", "said"), OTHERS)
def test_what_else_is_refused(
    make: Callable[[Path], tuple[Load, Any]],
    kind: type[Exception],
    named: str,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    load, _ = make(tmp_path)
    refused(load, kind, tmp_path / named if named else "", said)
