"""CIFAR-10 and CIFAR-100 from the official Python files.

`cifar-10-batches-py/{data_batch_1 … data_batch_5, test_batch, batches.meta}` and
`cifar-100-python/{train, test, meta}`: pickled dicts whose `data` is uint8 [n,3072], a row being
the red, green and blue 32x32 planes. CIFAR-100 is served with its 100 fine labels.

Source: Krizhevsky, Learning multiple layers of features from tiny images, 2009.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from tttlib.data import contents, restricted_pickle
from tttlib.data.cifar10_jpeg import CLASSES as CLASSES_10
from tttlib.data.imageset import ImageSet, check_split
from tttlib.data.lookup import find
from tttlib.runtime.errors import DamagedDataError

SIZE = 32
_NAMES_100 = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus
    butterfly camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab
    crocodile cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard
    lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom
    oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
    possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake
    spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor
    train trout tulip turtle wardrobe whale willow_tree wolf woman worm"""
CLASSES_100 = tuple(_NAMES_100.split())


class Family(NamedTuple):
    """How the files of one of the two datasets are called, and the keys of their dicts."""

    name: str
    folder: str
    parts: dict[str, list[str]]  # split -> files
    prefix: str  # of the dicts' keys
    meta: str
    classes: tuple[str, ...]


_BATCHES = {"train": [f"data_batch_{i}" for i in range(1, 6)], "test": ["test_batch"]}
_WHOLE = {"train": ["train"], "test": ["test"]}
CIFAR_10 = Family("cifar10", "cifar-10-batches-py", _BATCHES, "", "batches.meta", CLASSES_10)
CIFAR_100 = Family("cifar100", "cifar-100-python", _WHOLE, "fine_", "meta", CLASSES_100)


def _load(split: str, root: Path, *, family: Family) -> ImageSet:
    """Load train (50,000 images of 32x32) or test (10,000), in file order.

    Raises MissingDataError or DamagedDataError, naming the folder or the file.
    """
    name, classes = family.name, family.classes
    split = check_split(name, split, tuple(family.parts))
    archive = f"{name.replace('cifar', 'cifar-')}-python.tar.gz"
    source = f"https://www.cs.toronto.edu/~kriz/{archive}"
    where = find(name, root, [family.folder], source)
    remedy = f"unpack {source} again"
    files = [where / part for part in family.parts[split]]
    fingerprint = contents.fingerprint(name, files, remedy)
    names, meta = f"{family.prefix}label_names", where / family.meta
    if restricted_pickle.read(meta, remedy).get(names.encode()) != [c.encode() for c in classes]:
        raise DamagedDataError(
            f"{meta}: {names} must be the {len(classes)} official class names in their order; "
            f"{remedy}"
        )
    batches = [_batch(file, f"{family.prefix}labels", len(classes), remedy) for file in files]
    images = torch.from_numpy(np.concatenate([pixels for pixels, _ in batches]))
    labels = torch.cat([labels for _, labels in batches])
    return ImageSet(name, split, images, labels, classes, torch.arange(len(images)), fingerprint)


def _batch(path: Path, key: str, n_classes: int, remedy: str) -> tuple[np.ndarray, torch.Tensor]:
    """Return images uint8 [n,3,32,32] and labels int64 [n] of one file."""
    content = restricted_pickle.read(path, remedy)
    pixels: Any = content.get(b"data")
    labels: Any = content.get(key.encode())
    row = 3 * SIZE * SIZE
    if not isinstance(pixels, np.ndarray) or pixels.ndim != 2 or pixels.shape[1] != row:
        kind = getattr(pixels, "shape", type(pixels).__name__)
        raise DamagedDataError(f"{path}: data must be uint8 [n,{row}], not {kind}; {remedy}")
    legal = isinstance(labels, list) and all(
        type(label) is int and 0 <= label < n_classes for label in labels
    )
    if not legal or len(labels) != len(pixels) or not labels:
        raise DamagedDataError(
            f"{path}: {key} must be {len(pixels)} numbers (one an image, at least "
            f"one) in 0..{n_classes - 1}; {remedy}"
        )
    return pixels.reshape(-1, 3, SIZE, SIZE), torch.tensor(labels)


load_10 = partial(_load, family=CIFAR_10)
load_100 = partial(_load, family=CIFAR_100)
