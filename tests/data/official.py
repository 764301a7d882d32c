"""Writes small datasets in the layouts of the official files."""

from __future__ import annotations

import io
import json
import pickle
import struct
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from scipy.io import savemat

from tttlib.data import cifar, imagenet

TINY_WNIDS = ("n03000001", "n01000002", "n02000003")  # not sorted, as in the official list


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


def write_cifar10(root: Path, n: int = 3) -> dict[str, tuple[np.ndarray, list[int]]]:
    """File -> its images and labels."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    made = {}
    for i, name in enumerate([*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]):
        images, labels = pixels(n, i), [(3 * i + k) % 10 for k in range(n)]
        (folder / name).write_bytes(python2(cifar_batch(images, labels)))
        made[name] = images, labels
    names = [c.encode() for c in cifar.CLASSES_10]
    meta = {b"num_cases_per_batch": 10000, b"label_names": names, b"num_vis": 3072}
    (folder / "batches.meta").write_bytes(python2(meta))
    return made


def write_cifar100(root: Path, n: int = 4) -> dict[str, tuple[np.ndarray, list[int]]]:
    folder = root / "cifar-100-python"
    folder.mkdir(parents=True)
    made = {}
    for i, name in enumerate(["train", "test"]):
        images, labels = pixels(n, 50 + i), [99 - 7 * k - i for k in range(n)]
        batch = cifar_batch(images, labels, "fine_labels") | {
            b"coarse_labels": [k for k in range(n)]
        }
        (folder / name).write_bytes(python2(batch))
        made[name] = images, labels
    names = [c.encode() for c in cifar.CLASSES_100]
    meta = {b"fine_label_names": names, b"coarse_label_names": [b"fish"] * 20}
    (folder / "meta").write_bytes(python2(meta))
    return made


def write_cifar_c(
    root: Path, folder: str = "CIFAR-10-C", n: int = 4, classes: int = 10
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Corruption -> its array, and the labels of the n images."""
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


def write_devkit(root: Path, labels: dict[int, int]) -> Path:
    """Image number -> label. The kit numbers the classes backwards and has inner nodes as well."""
    folder = root / "ILSVRC2012_devkit_t12" / "data"
    folder.mkdir(parents=True)
    kinds = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("gloss", "O"),
             ("num_children", "O"), ("children", "O"), ("wordnet_height", "O"),
             ("num_train_images", "O")]  # fmt: skip
    rows = [(1000 - i, w, "words", "gloss", 0, [], 0, 1300) for i, w in enumerate(imagenet.wnids())]
    rows = [*rows[::-1], (1001, "n00001740", "entity", "gloss", 2, [1, 2], 19, 0)]
    table = np.empty((len(rows), 1), kinds)
    for i, row in enumerate(rows):
        table[i, 0] = row
    savemat(folder / "meta.mat", {"synsets": table})
    numbers = [1000 - labels.get(i, 0) for i in range(1, 50_001)]
    truth = folder / "ILSVRC2012_validation_ground_truth.txt"
    truth.write_text("\n".join(map(str, numbers)) + "\n")
    return folder


VOC = """<annotation>
\t<folder>val</folder>
\t<filename>{image}</filename>
\t<source>
\t\t<database>ILSVRC_2012</database>
\t</source>
\t<size>
\t\t<width>{width}</width>
\t\t<height>{height}</height>
\t\t<depth>3</depth>
\t</size>
\t<segmented>0</segmented>
{objects}</annotation>
"""
VOC_OBJECT = """\t<object>
\t\t<name>{name}</name>
\t\t<pose>Unspecified</pose>
\t\t<truncated>0</truncated>
\t\t<difficult>0</difficult>
\t\t<bndbox>
\t\t\t<xmin>{box[0]}</xmin>
\t\t\t<ymin>{box[1]}</ymin>
\t\t\t<xmax>{box[2]}</xmax>
\t\t\t<ymax>{box[3]}</ymax>
\t\t</bndbox>
\t</object>
"""
Box = tuple[float, float, float, float]


def write_voc(
    folder: Path, image: str, size: tuple[int, int], objects: list[tuple[str, Box]]
) -> Path:
    """The annotation of one image as in ILSVRC2012_bbox_val_v3; size is (width, height)."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{image}.xml"
    told = "".join(VOC_OBJECT.format(name=name, box=box) for name, box in objects)
    path.write_text(VOC.format(image=image, width=size[0], height=size[1], objects=told))
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


def write_parquet(
    path: Path, labels: list[int], names: list[str] | None = None
) -> list[np.ndarray]:
    """Hub layout with the columns `photo`, `kind` and `frame`; images of 16x16."""
    images, rows = pixels(len(labels), 5, 16), []
    for image in images:
        stream = io.BytesIO()
        Image.fromarray(image).save(stream, "PNG")
        rows.append({"bytes": stream.getvalue(), "path": None})
    table = pa.table({
        "photo": pa.array(rows, pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        "kind": pa.array(labels, pa.int64()),
        "frame": pa.array([[1, 2, 3 + i, 15] for i in range(len(labels))], pa.list_(pa.int16(), 4)),
    })  # fmt: skip
    if names:
        features = {"kind": {"names": names, "_type": "ClassLabel"}}
        text = json.dumps({"info": {"features": features}})
        table = table.replace_schema_metadata({"huggingface": text})
    pq.write_table(table, path)
    return list(images)
