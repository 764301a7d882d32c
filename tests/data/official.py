"""Writes small datasets in the layouts of the official files."""

from __future__ import annotations

import io
import json
import pickle
import struct
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from scipy.io import savemat

from tttlib.data import cifar, imagenet

# Tiny-ImageNet: its sorted wnids are the classes 0 … 4; the official list has another order
WNIDS = ("n03000001", "n01000002", "n02000003", "n09000004", "n04000005")
ORDER = sorted(WNIDS)
TINY_WNIDS = WNIDS[:3]


class _Python2Pickler(pickle._Pickler):  # type: ignore[name-defined]
    """Protocol 2 as Python 2 wrote it: bytes are its `str`, numpy has its old module's name."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)  # type: ignore[attr-defined]

    def save_bytes(self, content: bytes) -> None:
        if len(content) < 256:
            self.write(b"U" + bytes([len(content)]) + content)
        else:
            self.write(b"T" + struct.pack("<i", len(content)) + content)
        self.memoize(content)

    dispatch[bytes] = save_bytes

    def save_global(self, obj: object, name: str | None = None) -> None:
        if getattr(obj, "__name__", "") == "_reconstruct":
            self.write(b"cnumpy.core.multiarray\n_reconstruct\n")
            self.memoize(obj)
        else:
            super().save_global(obj, name)

    dispatch[type(lambda: 0)] = save_global
    dispatch[type(len)] = save_global

    def save_str(self, text: str) -> None:
        self.save_bytes(text.encode())

    dispatch[str] = save_str


def python2(content: object) -> bytes:
    stream = io.BytesIO()
    _Python2Pickler(stream, 2).dump(content)
    return stream.getvalue()


def pixels(n: int, seed: int, side: int = 32) -> np.ndarray:
    """uint8 [n,side,side,3]."""
    return np.random.default_rng(seed).integers(0, 256, (n, side, side, 3), np.uint8)


def cifar_batch(images: np.ndarray, labels: list[int], key: str = "labels") -> dict[bytes, object]:
    return {
        b"batch_label": b"a batch",
        key.encode(): labels,
        b"data": images.transpose(0, 3, 1, 2).reshape(len(images), -1).copy(),
        b"filenames": [b"leptodactylus_pentadactylus_s_000004.png"] * len(images),
    }


def write_cifar(root: Path, classes: int = 10, n: int = 3) -> dict[str, tuple[np.ndarray, list]]:
    """Write CIFAR-10 or CIFAR-100; file -> its images and labels."""
    batches = [*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]
    folder, files, key, meta, names = {
        10: ("cifar-10-batches-py", batches, "labels", "batches.meta", cifar.CLASSES_10),
        100: ("cifar-100-python", ["train", "test"], "fine_labels", "meta", cifar.CLASSES_100),
    }[classes]
    (root / folder).mkdir(parents=True)
    made = {}
    for i, name in enumerate(files):
        images, labels = pixels(n, i), [(3 * i + 7 * k + 5) % classes for k in range(n)]
        batch = cifar_batch(images, labels, key) | {b"coarse_labels": [*range(n)]}
        (root / folder / name).write_bytes(python2(batch))
        made[name] = images, labels
    listed = {f"{key[:-1]}_names".encode(): [c.encode() for c in names], b"num_vis": 3072}
    (root / folder / meta).write_bytes(python2(listed))
    return made


def write_cifar_c(
    root: Path, classes: int = 10, n: int = 4
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Corruption -> its array, and the labels of the n images."""
    folder = f"CIFAR-{classes}-C"
    (root / folder).mkdir(parents=True)
    made = {name: pixels(5 * n, i) for i, name in enumerate(["fog", "saturate"])}
    labels = (np.arange(n) * 3 + classes - 4) % classes
    for name, array in made.items():
        np.save(root / folder / f"{name}.npy", array)
    np.save(root / folder / "labels.npy", np.tile(labels, 5).astype(np.uint8))
    return made, labels


def picture(seed: int, size: tuple[int, int] = (224, 224), mode: str = "RGB") -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (7, 7, 3), np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).convert(mode)


def write_jpeg(
    path: Path, seed: int, size: tuple[int, int] = (224, 224), mode: str = "RGB"
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture(seed, size, mode).save(path, "JPEG", quality=85)
    return path


def decoded(path: Path) -> np.ndarray:
    """uint8 [H,W,3]."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def val_name(number: int) -> str:
    return f"ILSVRC2012_val_{number:08d}.JPEG"


def write_imagenet_c(
    root: Path, counts: dict[int, int], place: str = "fog/5", side: int = 224
) -> list[tuple[Path, int]]:
    """counts: label -> how many images. The files and labels, by class, then name."""
    made, number = [], 50_000
    for label, count in counts.items():
        for _ in range(count):
            number -= 997  # numbers have nothing to do with classes
            path = root / "ImageNet-C" / place / imagenet.wnids()[label] / val_name(number)
            made.append((write_jpeg(path, number, (side, side)), label))
    return sorted(made, key=lambda one: (one[1], one[0].name))


@cache
def _meta() -> bytes:
    names = "ILSVRC2012_ID WNID words gloss num_children children wordnet_height num_train_images"
    rows = [(1000 - i, w, "words", "gloss", 0, [], 0, 1300) for i, w in enumerate(imagenet.wnids())]
    rows = [*rows[::-1], (1001, "n00001740", "entity", "gloss", 2, [1, 2], 19, 0)]
    table = np.empty((len(rows), 1), [(name, "O") for name in names.split()])
    table[:, 0] = rows
    stream = io.BytesIO()
    savemat(stream, {"synsets": table})
    return stream.getvalue()


def write_devkit(root: Path, labels: dict[int, int]) -> Path:
    """Image number -> label. The kit numbers the classes backwards and has inner nodes as well."""
    folder = root / "ILSVRC2012_devkit_t12" / "data"
    folder.mkdir(parents=True)
    (folder / "meta.mat").write_bytes(_meta())
    numbers = [1000 - labels.get(i, 0) for i in range(1, 50_001)]
    truth = folder / "ILSVRC2012_validation_ground_truth.txt"
    truth.write_text("\n".join(map(str, numbers)) + "\n")
    return folder


VOC = """<annotation>
\t<folder>val</folder><filename>{}</filename><source><database>ILSVRC_2012</database></source>
\t<size><width>{}</width><height>{}</height><depth>3</depth></size><segmented>0</segmented>
{}</annotation>
"""
VOC_OBJECT = """\t<object>
\t\t<name>{}</name><pose>Unspecified</pose><truncated>0</truncated><difficult>0</difficult>
\t\t<bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox>
\t</object>
"""
Box = tuple[float, float, float, float]


def write_voc(
    folder: Path, image: str, size: tuple[int, int], objects: list[tuple[str, Box]]
) -> Path:
    """The annotation of one image as in ILSVRC2012_bbox_val_v3; size is (width, height)."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{image}.xml"
    told = "".join(VOC_OBJECT.format(name, *box) for name, box in objects)
    path.write_text(VOC.format(image, *size, told))
    return path


def write_tiny_c(root: Path, place: str = "fog/5", side: int = 64) -> list[tuple[Path, int]]:
    """Two images of each class of `TINY_WNIDS` but the first; the wnids lie beside."""
    official = root / "tiny-imagenet-200"
    official.mkdir(parents=True, exist_ok=True)
    (official / "wnids.txt").write_text("\n".join(TINY_WNIDS) + "\n")
    (official / "words.txt").write_text("n02000003\tcat, kitty\n")
    made = []
    for label, wnid in enumerate(sorted(TINY_WNIDS)[:2]):
        for k in (7, 31):
            path = root / "Tiny-ImageNet-C" / place / wnid / f"val_{100 * k + label}.JPEG"
            made.append((write_jpeg(path, k + label, (side, side)), label))
    return sorted(made, key=lambda one: (one[1], one[0].name))


def encoded(image: np.ndarray, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, kind)
    return stream.getvalue()


def write_hub(
    path: Path,
    images: list[bytes],
    labels: list[int],
    boxes: list | None = None,
    columns: str = "image label bbox",
) -> Path:
    """The hub's layout."""
    image, label, box = columns.split()
    stored = [{"bytes": one, "path": None} for one in images]
    table = {
        image: pa.array(stored, pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        label: pa.array(labels, pa.int64()),
    }
    if boxes is not None:
        table[box] = pa.array(boxes, pa.list_(pa.int16()))
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(table), path, compression="zstd", row_group_size=4)
    return path


def write_parquet(
    path: Path, labels: list[int], names: list[str] | None = None
) -> list[np.ndarray]:
    """The columns `photo`, `kind` and `frame`; images of 16x16."""
    images = pixels(len(labels), 5, 16)
    boxes = [[1, 2, 3 + i, 15] for i in range(len(labels))]
    write_hub(path, [encoded(one) for one in images], labels, boxes, "photo kind frame")
    if names:
        features = {"info": {"features": {"kind": {"names": names, "_type": "ClassLabel"}}}}
        metadata = {"huggingface": json.dumps(features)}
        pq.write_table(pq.read_table(path).replace_schema_metadata(metadata), path)
    return list(images)


def write_cifar_jpeg(
    root: Path, split: str, labels: list[int], *, side: int = 32, kind: str = "JPEG"
) -> Path:
    images = [encoded(one, kind) for one in pixels(len(labels), 0, side)]
    path = root / f"cifar10-jpeg-{split}.parquet"
    return write_hub(path, images, labels, columns="img label -")


WORDS = {
    "n01000002": "goldfish, Carassius auratus",
    "n02000003": "cat",
    "n03000001": "lamp",
    "n04000005": "sofa, couch",
    "n09000004": "cliff",
    "n10000000": "a class of ImageNet that Tiny-ImageNet lacks",
}


@dataclass(frozen=True)
class Photo:
    jpeg: bytes
    label: int  # among the sorted wnids
    box: tuple[int, int, int, int]  # inclusive maxima


def tiny_jpeg(seed: int, mode: str = "RGB", size: tuple[int, int] = (64, 64)) -> bytes:
    stream = io.BytesIO()
    picture(seed, size, mode).save(stream, "JPEG", quality=90)
    return stream.getvalue()


def photos(n: int = 10, first: int = 0) -> list[Photo]:
    """Sorted by class, two of each; the third is grey, the second one's box has no area."""
    return [
        Photo(jpeg, i * 5 // n, (i, 2 * i, i if i == 1 else 40 + i, 63))
        for i, jpeg in enumerate(tiny_jpeg(first + i, "L" if i == 2 else "RGB") for i in range(n))
    ]


def write_tiny_hub(root: Path, split: str, images: list[Photo], *, boxes: bool = True) -> Path:
    path = root / f"tiny-imagenet-{split}.parquet"
    frames = [p.box for p in images] if boxes else None
    write_hub(path, [p.jpeg for p in images], [p.label for p in images], frames)
    lines = [f"{i}\t{wnid}\t{WORDS[wnid]}\n" for i, wnid in enumerate(ORDER)]  # no header
    (root / "tiny-imagenet-classes.tsv").write_text("".join(lines))
    return path


def write_tiny(root: Path, train: list[Photo], valid: list[Photo]) -> Path:
    folder = root / "tiny-imagenet-200"
    (folder / "val" / "images").mkdir(parents=True)
    (folder / "wnids.txt").write_text("\n".join(WNIDS) + "\n")
    (folder / "words.txt").write_text("".join(f"{k}\t{v}\n" for k, v in WORDS.items()))

    def listed(listing: Path, images: Path, photo: Photo, *words: str) -> None:
        (images / words[0]).write_bytes(photo.jpeg)
        with listing.open("a") as stream:
            print(*words, *photo.box, sep="\t", file=stream)

    for label, wnid in enumerate(ORDER):
        inside = folder / "train" / wnid
        (inside / "images").mkdir(parents=True)
        (inside / f"{wnid}_boxes.txt").touch()
        for i, photo in enumerate(p for p in train if p.label == label):
            listed(inside / f"{wnid}_boxes.txt", inside / "images", photo, f"{wnid}_{i}.JPEG")
    for i, photo in enumerate(valid):
        lines = folder / "val" / "val_annotations.txt"
        listed(lines, folder / "val" / "images", photo, f"val_{i}.JPEG", ORDER[photo.label])
    return folder
