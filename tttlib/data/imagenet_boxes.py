"""The object boxes of ImageNet's validation images: ILSVRC2012_bbox_val_v3.tgz.

One XML file per image (`ILSVRC2012_val_00000001.xml`), which lists every object of the image's
class. Reading and mapping take about a millisecond an image, so boxes come when asked for.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from tqdm.auto import tqdm

from tttlib.boxes import Annotation, area_ratio, read_voc, through
from tttlib.data.class_folders import Labelled
from tttlib.data.lookup import is_folder, listing
from tttlib.runtime.errors import DamagedDataError, MissingDataError

FOLDERS = (
    "ILSVRC2012_bbox_val_v3/val",
    "ILSVRC2012_bbox_val_v3",
    "ILSVRC2012_bbox_val",
    "val_annotations",
    "Annotations/CLS-LOC/val",
    "ILSVRC/Annotations/CLS-LOC/val",
)
SOURCE = "https://image-net.org (ILSVRC2012_bbox_val_v3.tgz)"
_FILE = re.compile(r"ILSVRC2012_val_.*\.xml")

_log = logging.getLogger(__name__)


def find(dataset: str, places: Sequence[Path]) -> Path:
    """Return the folder of the XML files: one of `FOLDERS` under a place, or a place itself.

    The archive itself unpacks into `val`, which may be the images' folder. Raises MissingDataError
    naming the places, DamagedDataError when one cannot be read.
    """
    places = list(dict.fromkeys(places))
    for folder in [*(place / name for place in places for name in FOLDERS), *places]:
        if is_folder(folder) and any(_FILE.fullmatch(path.name) for path in listing(folder)):
            return folder
    raise MissingDataError(
        f"{dataset}: boxes asked for, but none of {', '.join(FOLDERS)} with ILSVRC2012_val_*.xml "
        f"lies in {' or '.join(map(str, places))}. Get {SOURCE} and unpack it there as "
        "ILSVRC2012_bbox_val_v3, or load without boxes"
    )


def of_images(folder: Path, images: Sequence[Path]) -> list[Annotation]:
    """Read what the folder says of each image, in that order.

    Boxes that stick out are cut, those without area dropped (see `read_voc`), and how many is
    logged as a warning. Raises DamagedDataError naming the file.
    """
    bar = tqdm(images, desc=f"read {folder.name}", unit="file", delay=2)
    annotations = [read_voc(folder / f"{path.stem}.xml", strict=False) for path in bar]
    clipped, dropped = sum(a.clipped for a in annotations), sum(a.dropped for a in annotations)
    if clipped or dropped:
        total = sum(len(a.names) for a in annotations) + dropped
        _log.warning(
            "%s: of %d boxes, %d stuck out of their image and were cut, %d had no area and were "
            "left out",
            *(folder, total, clipped, dropped),
        )
    return annotations


def read(folder: Path, files: Labelled, wnids: Sequence[str], steps: Sequence[str]) -> Tensor:
    """Return one box per image, float32 [N,4], in pixels of the preprocessed image.

    Parameters
    ----------
    folder
        Holds the XML files.
    files
        The images and their labels.
    wnids
        Class names in the order of the labels.
    steps
        The preprocessings (`tttlib.boxes.PREPROCESS`) from the original image to the one served.

    Returns
    -------
    Tensor
        Of several objects of the image's class it is the one that covers most of the preprocessed
        image, the first of equals. A box without area: all of them were cropped away, or had no
        area before.

    Raises
    ------
    DamagedDataError
        For an annotation without any object of the image's class.
    """
    boxes = torch.zeros(len(files), 4)
    annotations = of_images(folder, [path for path, _ in files])
    bar = tqdm(files, desc="boxes through the preprocessing", unit="image", delay=2)
    for i, ((path, label), one) in enumerate(zip(bar, annotations, strict=True)):
        own = torch.tensor([name == wnids[label] for name in one.names], dtype=torch.bool)
        if one.names and not own.any():
            raise DamagedDataError(
                f"{folder / path.stem}.xml lists {', '.join(sorted(set(one.names)))}, but {path} "
                f"has the class {wnids[label]}; unpack both archives again"
            )
        moved = one.boxes
        for step in steps:
            moved, _ = through(moved, step)
        if own.any():
            ratios = area_ratio(moved, *moved.canvas_size)
            boxes[i] = moved[torch.where(own, ratios, -1).argmax()]
    return boxes
