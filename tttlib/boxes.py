"""Object boxes: reading them from PASCAL-VOC XML, through resize and crop, and their area ratios.

Everywhere a box is xmin, ymin, xmax, ymax in pixels from the image's upper left corner, float32,
its maxima exclusive: xmax - xmin is its width.

ILSVRC's files count pixels from 0 and name the last one *inside* (a box over all of a 500 pixels
wide image ends at 499; the challenge's own overlap adds 1 to each side), yet the area ratio
published with experiment E5, (xmax - xmin)(ymax - ymin) / (W H), takes the numbers as edges, as
TensorFlow's ImageNet pipeline does. Edges are the default here, so the ratio is the published one;
`inclusive=True` adds the pixel, which enlarges a side of s pixels by 1/s.

Format: Everingham et al., The PASCAL Visual Object Classes Challenge, IJCV 2010.
Use: Russakovsky et al., ImageNet Large Scale Visual Recognition Challenge, IJCV 2015, section 3.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable
from dataclasses import dataclass
from math import isfinite
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor

from tttlib.data.image_files import CROP, PREPROCESS, geometry
from tttlib.data.imageset import DamagedDataError
from tttlib.data.lookup import unreadable

_MOST_BYTES = 1 << 20  # an annotation has about one kilobyte
_SIDES = ("xmin", "ymin", "xmax", "ymax")
_REMEDY = "unpack the annotations again, or take the file out"


@dataclass(frozen=True, eq=False)
class Annotation:
    """What one file says of its image.

    image    file name of the image without folder and suffix, such as ILSVRC2012_val_00000001
    boxes    `BoundingBoxes` float32 [K,4] of the K objects; their canvas is (height, width)
    names    class of each object (ImageNet: the wnid)
    clipped  how many of the K boxes stuck out of the image and were cut at its edge
    dropped  objects beside the K, left out because their box has no area in the image
    """

    image: str
    width: int
    height: int
    boxes: Any  # BoundingBoxes, whose module has no types
    names: tuple[str, ...]
    clipped: int = 0
    dropped: int = 0


class ImageAreas(NamedTuple):
    """Area ratios of one image's objects: how many, the largest, their mean, and their union."""

    n: int
    largest: float
    mean: float
    union: float


class ClassAreas(NamedTuple):
    """Per class [C]: how many ratios (int64), their mean and unbiased variance (float64).

    A class without a ratio has mean NaN, with fewer than two variance NaN.
    """

    n: Tensor
    mean: Tensor
    variance: Tensor


# -- reading ---------------------------------------------------------------------------------------


def read_voc(path: str | Path, *, strict: bool = True, inclusive: bool = False) -> Annotation:
    """The objects that one XML file lists, in its order.

    strict     True: a box that leaves the image or has no area is an error. False: it is cut at the
               image's edge, or dropped when nothing is left, and counted; real files have such
               boxes. A box wholly outside the image belongs to another image and is always an error
    inclusive  the file's maxima name the last pixel inside: 1 is added to them
    Raises DamagedDataError naming the file: missing, unreadable, no XML, with a document type
    (entities can make a small file huge), another image's, without size or objects, a number that
    is none.
    """
    path = Path(path)
    root = _parse(path)
    image = _text(root, "filename", path)
    if path.stem not in (image, PurePosixPath(image).stem):
        raise _damaged(path, f"is about another image, {image!r}")
    width, height = (_number(root, f"size/{side}", path) for side in ("width", "height"))
    if min(width, height) < 1 or not (width.is_integer() and height.is_integer()):
        raise _damaged(path, f"says its image is {width:g}x{height:g} pixels")
    objects = root.findall("object")
    if not objects:
        raise _damaged(path, "lists no object")
    names, boxes, clipped = [], [], 0
    for number, one in enumerate(objects, 1):
        what = f"object {number}: "
        name = _text(one, "name", path, what)
        x1, y1, x2, y2 = (_number(one, f"bndbox/{side}", path, what) for side in _SIDES)
        x2, y2 = x2 + inclusive, y2 + inclusive
        told = f"{what}the box {x1:g} {y1:g} {x2:g} {y2:g}"
        if x1 > width or y1 > height or x2 < 0 or y2 < 0:
            raise _damaged(path, f"{told} lies outside its image of {width:g}x{height:g}")
        cut = max(x1, 0.0), max(y1, 0.0), min(x2, width), min(y2, height)
        empty = cut[0] >= cut[2] or cut[1] >= cut[3]
        if strict and (x2 <= x1 or y2 <= y1):
            raise _damaged(path, f"{told} has no area")
        if strict and cut != (x1, y1, x2, y2):
            raise _damaged(path, f"{told} leaves its image of {width:g}x{height:g}")
        if not empty:
            names.append(name)
            boxes.append(cut)
            clipped += cut != (x1, y1, x2, y2)
    canvas = int(height), int(width)
    return Annotation(
        path.stem,
        int(width),
        int(height),
        _boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), canvas),
        tuple(names),
        clipped,
        len(objects) - len(names),
    )


class _NoDoctype(ET.TreeBuilder):
    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise ValueError("it declares a document type, which annotations never need")


def _parse(path: Path) -> ET.Element:
    try:
        with path.open("rb") as stream:
            content = stream.read(_MOST_BYTES + 1)
    except FileNotFoundError as error:
        raise _damaged(path, "is missing") from error
    except OSError as error:
        raise unreadable(path, error) from error
    if not content:
        raise _damaged(path, "is empty (0 bytes)")
    if len(content) > _MOST_BYTES:
        raise _damaged(path, f"has more than {_MOST_BYTES} bytes, too many for an annotation")
    try:
        return ET.XML(content, ET.XMLParser(target=_NoDoctype()))
    except (ET.ParseError, ValueError, LookupError) as error:  # the last: unknown encoding
        raise _damaged(path, f"cannot be read as XML ({error})") from error


def _text(root: ET.Element, tag: str, path: Path, what: str = "") -> str:
    text = (root.findtext(tag) or "").strip()
    if not text:
        raise _damaged(path, f"{what}has no {tag}")
    return text


def _number(root: ET.Element, tag: str, path: Path, what: str = "") -> float:
    text = _text(root, tag, path, what)
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not isfinite(number):
        raise _damaged(path, f"{what}{tag} is {text[:40]!r}, not a number")
    return number


def _damaged(path: Path, what: str) -> DamagedDataError:
    return DamagedDataError(f"{path} {what}; {_REMEDY}")


def _boxes(values: Tensor, canvas: tuple[int, int]) -> Any:
    from torchvision.tv_tensors import BoundingBoxes  # here: it takes seconds to import

    return BoundingBoxes(values, format="XYXY", canvas_size=canvas)


# -- through the preprocessing ---------------------------------------------------------------------


def through(boxes: Any, preprocess: str) -> tuple[Any, Tensor]:
    """Boxes of an image -> boxes in what `preprocess` makes of it, and how much of each is seen.

    boxes       `BoundingBoxes` [K,4] whose canvas is the image
    preprocess  one of `files.PREPROCESS`
    Returns `BoundingBoxes` [K,4] cut at the crop's edge, and float32 [K] in [0,1]: the share of
    each box's area that lies in the crop. A box that was cropped away has share 0 and no area.
    Raises ValueError for another preprocess.
    """
    from torchvision.transforms.v2 import functional as F

    if preprocess not in PREPROCESS:
        raise ValueError(f"unknown preprocess {preprocess!r}; known are {', '.join(PREPROCESS)}")
    if preprocess == "to_tensor":
        whole, seen = boxes, F.clamp_bounding_boxes(boxes)
    else:
        height, width = boxes.canvas_size
        wide, high, left, top = geometry(width, height)
        whole = F.resize(boxes, [high, wide])
        seen = F.crop(whole, top, left, CROP, CROP)
    before, after = _area(whole), _area(seen)
    return seen, torch.where(before > 0, after / before, 0).clamp(max=1)


# -- areas -----------------------------------------------------------------------------------------


def area_ratio(boxes: Tensor, height: int, width: int) -> Tensor:
    """(xmax - xmin)(ymax - ymin) / (W H) of boxes [...,4], float32 [...]; methods of E5.

    0 for a box without area. Boxes are taken as they are: cut them at the image's edge before, or
    one that sticks out counts for more than its visible part. Raises ValueError for another last
    dimension or an image without pixels.
    """
    if boxes.shape[-1:] != (4,):
        raise ValueError(f"boxes must be [...,4] (xmin, ymin, xmax, ymax), not {[*boxes.shape]}")
    if height < 1 or width < 1:
        raise ValueError(f"an image of {width}x{height} pixels has no area; give its size")
    return _area(boxes) / (height * width)


def image_areas(boxes: Tensor, height: int, width: int) -> ImageAreas:
    """The area ratios of one image's objects [K,4] in four numbers; all 0 when K is 0.

    The union counts what several boxes cover once, so unlike a sum it is at most 1 for boxes in
    the image.
    """
    ratios = area_ratio(boxes, height, width)
    if not len(ratios):
        return ImageAreas(0, 0.0, 0.0, 0.0)
    union = _union(boxes) / (height * width)
    return ImageAreas(len(ratios), float(ratios.max()), float(ratios.mean()), union)


def by_class(ratios: Tensor, labels: Tensor, n_classes: int) -> ClassAreas:
    """Mean and variance of the area ratio in each class: the two quantities of E5.

    ratios  float [M], one per object (or image)
    labels  int64 [M] in 0 … n_classes-1
    Raises ValueError for lengths that differ and labels out of range.
    """
    if ratios.shape != labels.shape or ratios.ndim != 1:
        raise ValueError(f"ratios and labels must be [M], not {ratios.shape} and {labels.shape}")
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < n_classes:
        raise ValueError(f"labels must lie in 0..{n_classes - 1}; raise n_classes or drop others")
    values = ratios.double()
    count = torch.bincount(labels, minlength=n_classes)
    mean = torch.bincount(labels, values, n_classes) / count  # 0/0 is the NaN of an empty class
    off = (values - mean[labels]) ** 2
    variance = torch.bincount(labels, off, n_classes) / (count - 1).clamp(min=0)
    return ClassAreas(count, mean, variance)


def degenerate(boxes: Tensor, least_side: float = 0) -> Tensor:
    """bool [...]: a side of the box is `least_side` pixels or less.

    Where maxima were inclusive in the files (Tiny-ImageNet), `least_side=1` finds the boxes that
    have no area there.
    """
    return (boxes[..., 2:] - boxes[..., :2] <= least_side).any(-1)


def out_of_range(boxes: Tensor, height: int, width: int) -> Tensor:
    """bool [...]: the box leaves the image."""
    return (boxes[..., :2] < 0).any(-1) | (boxes[..., 2] > width) | (boxes[..., 3] > height)


def object_table(
    annotations: Iterable[Annotation], preprocess: str = "resize256-bicubic"
) -> pd.DataFrame:
    """One row per object: image, name, ratio, ratio_crop and visible.

    ratio       area ratio in the original image (E5)
    ratio_crop  the same after the preprocessing, of what the crop leaves
    visible     share of the box's area that the crop leaves; 0: cropped away
    """
    rows: list[tuple[str, str, float, float, float]] = []
    for one in annotations:
        seen, visible = through(one.boxes, preprocess)
        ratio = area_ratio(one.boxes, one.height, one.width).tolist()
        cropped = area_ratio(seen, *seen.canvas_size).tolist()
        images = [one.image] * len(one.names)
        rows += zip(images, one.names, ratio, cropped, visible.tolist(), strict=True)
    return pd.DataFrame(rows, columns=["image", "name", "ratio", "ratio_crop", "visible"])


def _area(boxes: Tensor) -> Tensor:
    x1, y1, x2, y2 = boxes.as_subclass(Tensor).float().unbind(-1)
    return (x2 - x1).clamp(min=0) * (y2 - y1).clamp(min=0)


def _union(boxes: Tensor) -> float:
    """Area that boxes [K,4] cover together: the cells between all their edges, each once."""
    x1, y1, x2, y2 = boxes.as_subclass(Tensor).double().unbind(-1)
    xs, ys = torch.cat([x1, x2]).unique(), torch.cat([y1, y2]).unique()  # sorted
    across = (x1[:, None] <= xs[:-1]) & (xs[1:] <= x2[:, None])  # [K,X-1]
    down = (y1[:, None] <= ys[:-1]) & (ys[1:] <= y2[:, None])  # [K,Y-1]
    covered = (down[:, :, None] & across[:, None, :]).any(0)  # [Y-1,X-1]
    return float((covered * ys.diff()[:, None] * xs.diff()).sum())
