"""Corrupted copies of a dataset as files, in the layouts that other code reads.

`npy`     like CIFAR-10-C: one array uint8 [5N,H,W,3] per corruption, the severities one after the
          other, and labels.npy [5N];
`folders` like ImageNet-C: <corruption>/<severity>/<class>/<id>.JPEG, JPEG of quality 85.

Hendrycks and Dietterich, ICLR 2019, arXiv 1903.12261. An interrupted run goes on where it was; what
stands under its final name is complete.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm.auto import tqdm

from tttlib import corruptions
from tttlib.data.imageset import ImageSet

LAYOUTS = ("npy", "folders")
SEVERITIES = (1, 2, 3, 4, 5)
_AT_ONCE = 256
_JPEG_QUALITY = 85


def make_c(
    dataset: ImageSet,
    out: str | Path,
    *,
    layout: str = "npy",
    names: Sequence[str] = corruptions.NAMES,
    seed: int = 0,
    progress: bool = True,
) -> Path:
    """Write `dataset` under every corruption of `names` at severities 1 to 5; returns `out`.

    Raises ValueError for an unknown layout or corruption, and when `out` holds another dataset.
    """
    if layout not in LAYOUTS:
        raise ValueError(f"unknown layout {layout!r}; known are {', '.join(LAYOUTS)}")
    for name in names:
        dataset.corrupted(name, 1)
    out = Path(out)
    _claim(out, dataset, layout, seed)
    write = _write_npy if layout == "npy" else _write_folders
    for name in tqdm(names, desc="corruptions", disable=not progress):
        write(dataset, out, name, seed)
    return out


def _claim(out: Path, dataset: ImageSet, layout: str, seed: int) -> None:
    """Say in made.json what the folder holds; ValueError when that is something else."""
    made = {
        "dataset": dataset.name,
        "split": dataset.split,
        "images": len(dataset),
        "fingerprint": dataset.fingerprint,
        "layout": layout,
        "seed": seed,
        "version": corruptions.VERSION,
    }
    path = out / "made.json"
    if path.is_file():
        found = json.loads(path.read_text())
        if found != made:
            differs = ", ".join(key for key in made if found.get(key) != made[key])
            raise ValueError(f"{out} was made with another {differs}; choose another folder")
        return
    out.mkdir(parents=True, exist_ok=True)
    _atomically(path, lambda file: file.write_text(json.dumps(made, indent=1)))


def _write_npy(dataset: ImageSet, out: Path, name: str, seed: int) -> None:
    labels, target = out / "labels.npy", out / f"{name}.npy"
    if not labels.is_file():
        repeated = np.tile(dataset.labels.numpy(), len(SEVERITIES))
        _atomically(labels, lambda file: _save(file, repeated))
    if target.is_file():
        return
    parts = []
    for severity in SEVERITIES:  # a part per severity, so that little is lost
        part = out / f".{name}-{severity}.npy"
        parts.append(part)
        if not part.is_file():
            images = dataset.corrupted(name, severity, seed=seed).images
            shape = (len(images), *images.shape[2:], 3)
            _atomically(part, partial(_fill, images=images, shape=shape))

    def join(file: Path) -> None:
        first = np.load(parts[0], mmap_mode="r")
        shape = (len(parts) * len(first), *first.shape[1:])
        whole = np.lib.format.open_memmap(file, "w+", np.uint8, shape)
        for i, part in enumerate(parts):
            whole[i * len(first) : (i + 1) * len(first)] = np.load(part, mmap_mode="r")
        whole.flush()

    _atomically(target, join)
    for part in parts:
        part.unlink()


def _fill(file: Path, images: object, shape: tuple[int, ...]) -> None:
    array = np.lib.format.open_memmap(file, "w+", np.uint8, shape)
    for start in range(0, shape[0], _AT_ONCE):
        chunk = images[start : start + _AT_ONCE]  # type: ignore[index]
        array[start : start + _AT_ONCE] = chunk.movedim(1, -1).numpy()
    array.flush()


def _write_folders(dataset: ImageSet, out: Path, name: str, seed: int) -> None:
    classes = [label.replace("/", "_") for label in dataset.classes]
    if len(set(classes)) < len(classes):  # names of Tiny-ImageNet's classes are not unique
        classes = [f"{i:03d} {label}" for i, label in enumerate(classes)]
    for severity in SEVERITIES:
        images = dataset.corrupted(name, severity, seed=seed).images
        folder = out / name / str(severity)
        files = [
            folder / classes[label] / f"{image}.JPEG"
            for label, image in zip(dataset.labels.tolist(), dataset.ids.tolist(), strict=True)
        ]
        for parent in {file.parent for file in files}:
            parent.mkdir(parents=True, exist_ok=True)
        for start in range(0, len(files), _AT_ONCE):
            batch = files[start : start + _AT_ONCE]
            if all(file.is_file() for file in batch):
                continue
            pixels = images[start : start + _AT_ONCE].movedim(1, -1).contiguous().numpy()
            for file, image in zip(batch, pixels, strict=True):
                _atomically(file, partial(_save_jpeg, image=image))


def _save(file: Path, array: np.ndarray) -> None:
    with file.open("wb") as stream:
        np.save(stream, array)


def _save_jpeg(file: Path, image: np.ndarray) -> None:
    Image.fromarray(image).save(file, "JPEG", quality=_JPEG_QUALITY, optimize=True)


def _atomically(path: Path, write: Callable[[Path], object]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        write(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
