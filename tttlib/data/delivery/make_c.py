"""Corrupted copies of a dataset as files, in the layouts that other code reads.

* `npy` like CIFAR-10-C: one array uint8 [5N,H,W,3] per corruption, the severities one after the
  other, and labels.npy [5N];
* `folders` like ImageNet-C: <corruption>/<severity>/<class>/<id>.JPEG, JPEG of quality 85.

Hendrycks and Dietterich, ICLR 2019, arXiv 1903.12261. An interrupted run goes on where it was; what
stands under its final name is complete.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm.auto import tqdm

from tttlib import corruptions
from tttlib.data.c_options import SEVERITIES
from tttlib.data.imageset import ImageSet
from tttlib.runtime.files import atomic_write

LAYOUTS = ("npy", "folders")
_AT_ONCE = 256
_JPEG_QUALITY = 85


def make_c(
    dataset: ImageSet,
    out: str | Path,
    *,
    layout: str = "npy",
    names: Sequence[str] = corruptions.NAMES,
    seed: int = 0,
) -> Path:
    """Write `dataset` under every corruption at severities 1 to 5.

    Parameters
    ----------
    dataset
        The clean images.
    out
        The folder to write into; returned.
    layout
        "npy" or "folders".
    names
        The corruptions.
    seed
        Decides the random fields.

    Raises
    ------
    ValueError
        For an unknown layout or corruption, and when `out` holds another dataset.
    """
    if layout not in LAYOUTS:
        raise ValueError(f"unknown layout {layout!r}; known are {', '.join(LAYOUTS)}")
    for name in names:
        dataset.corrupted(name, 1)
    out = Path(out)
    _claim(out, dataset, layout, seed)
    write = _write_npy if layout == "npy" else _write_folders
    for name in tqdm(names, desc="corruptions"):
        write(dataset, out, name, seed)
    return out


def _claim(out: Path, dataset: ImageSet, layout: str, seed: int) -> None:
    """Say in made.json what the folder holds; raise ValueError when that is something else."""
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
        before = json.loads(path.read_text(encoding="utf-8"))
        if before != made:
            differs = ", ".join(key for key in made if before.get(key) != made[key])
            raise ValueError(f"{out} was made with another {differs}; choose another folder")
        return
    out.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        file.write_text(json.dumps(made, indent=1), encoding="utf-8")


def _write_npy(dataset: ImageSet, out: Path, name: str, seed: int) -> None:
    labels, target = out / "labels.npy", out / f"{name}.npy"
    if not labels.is_file():
        with atomic_write(labels) as file, file.open("wb") as stream:
            np.save(stream, np.tile(dataset.labels.numpy(), len(SEVERITIES)))
    if target.is_file():
        return
    shape = (len(SEVERITIES), len(dataset), *dataset.images.shape[2:], 3)
    with atomic_write(target) as file:
        flat = (shape[0] * shape[1], *shape[2:])
        array = np.lib.format.open_memmap(file, "w+", np.uint8, flat)
        for part, severity in zip(array.reshape(shape), SEVERITIES, strict=True):
            images = dataset.corrupted(name, severity, seed=seed).images
            for start in range(0, len(dataset), _AT_ONCE):
                part[start : start + _AT_ONCE] = _channels_last(images[start : start + _AT_ONCE])
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
            pixels = _channels_last(images[start : start + _AT_ONCE])
            for target, image in zip(batch, pixels, strict=True):
                with atomic_write(target, durable=False) as file:
                    Image.fromarray(image).save(file, "JPEG", quality=_JPEG_QUALITY, optimize=True)


def _channels_last(images: torch.Tensor) -> np.ndarray:
    return images.movedim(1, -1).contiguous().numpy()  # [B,3,H,W] -> [B,H,W,3]
