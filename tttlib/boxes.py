"""Object boxes: reading them from PASCAL-VOC XML, through resize and crop, and their area ratios.

Everywhere a box is xmin, ymin, xmax, ymax in pixels from the image's upper left corner, float32,
with exclusive maxima: xmax - xmin is its width.

ILSVRC's files count pixels from 0 and name the last one *inside* (a box over all of a 500 pixels
wide image ends at 499; the challenge's own overlap adds 1 to each side), yet the published area
ratio, (xmax - xmin)(ymax - ymin) / (W H), takes the numbers as edges, as TensorFlow's ImageNet
pipeline does. Edges are the default here, so the ratio is the published one; `inclusive=True` adds
the pixel, which enlarges a side of s pixels by 1/s.

Format: Everingham et al., The PASCAL Visual Object Classes Challenge, IJCV 2010.
Use: Russakovsky et al., ImageNet Large Scale Visual Recognition Challenge, IJCV 2015, section 3.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable
from dataclasses import dataclass
from math import isfinite
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from tttlib.runtime.errors import DamagedDataError, unreadable

if TYPE_CHECKING:
    import pandas as pd

PREPROCESS = ("to_tensor", "resize256-bilinear", "resize256-bicubic")
"""Names of the ways in which an image file becomes an input, see `tttlib.data.image_files`."""
CROP = 224
_SHORT = 256

_MOST_BYTES = 1 << 20  # an annotation has about one kilobyte
_SIDES = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True, eq=False)
class Annotation:
    """The objects that one annotation file lists.

    Attributes
    ----------
    image
        File name of the image without folder and suffix, such as ILSVRC2012_val_00000001.
    width, height
        Size of the original image in pixels.
    boxes
        `BoundingBoxes`, float32 [K,4], of the K objects; their canvas is (height, width).
    names
        Class of each object (ImageNet: the wnid).
    clipped
        How many of the K boxes stuck out of the image and were cut at its edge.
    dropped
        How many more objects were left out because their box has no area in the image.
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
    """Area ratios of each class, [C]: number (int64), mean and unbiased variance (float64).

    A class without a ratio has mean NaN, one with fewer than two has variance NaN.
    """

    n: Tensor
    mean: Tensor
    variance: Tensor


# -- reading ---------------------------------------------------------------------------------------


def read_voc(path: str | Path, *, strict: bool = True, inclusive: bool = False) -> Annotation:
    """Read the objects that one XML file lists, in its order.

    Parameters
    ----------
    path
        The XML file.
    strict
        Whether a box that leaves the image or has no area is an error. Otherwise it is cut at the
        image's edge, or dropped when nothing is left, and counted; published files have such boxes.
        A box wholly outside the image belongs to another image and is always an error.
    inclusive
        Whether the file's maxima name the last pixel inside; 1 is then added to them.

    Raises
    ------
    DamagedDataError
        Naming the file: missing, unreadable, no XML, with a document type (entities can make a
        small file huge), another image's, without size or objects, or with a number that is none.
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
    for number, element in enumerate(objects, 1):
        label = f"object {number}: "
        name = _text(element, "name", path, label)
        x1, y1, x2, y2 = (_number(element, f"bndbox/{side}", path, label) for side in _SIDES)
        x2, y2 = x2 + inclusive, y2 + inclusive
        box_text = f"{label}the box {x1:g} {y1:g} {x2:g} {y2:g}"
        if x1 > width or y1 > height or x2 < 0 or y2 < 0:
            raise _damaged(path, f"{box_text} lies outside its image of {width:g}x{height:g}")
        cut = max(x1, 0.0), max(y1, 0.0), min(x2, width), min(y2, height)
        empty = cut[0] >= cut[2] or cut[1] >= cut[3]
        if strict and (x2 <= x1 or y2 <= y1):
            raise _damaged(path, f"{box_text} has no area")
        if strict and cut != (x1, y1, x2, y2):
            raise _damaged(path, f"{box_text} leaves its image of {width:g}x{height:g}")
        if not empty:
            names.append(name)
            boxes.append(cut)
            clipped += cut != (x1, y1, x2, y2)
    from torchvision.tv_tensors import BoundingBoxes  # here: it takes seconds to import

    values = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    canvas = int(height), int(width)
    on_canvas = BoundingBoxes(values, format="XYXY", canvas_size=canvas)
    dropped = len(objects) - len(names)
    return Annotation(path.stem, canvas[1], canvas[0], on_canvas, tuple(names), clipped, dropped)


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


def _text(root: ET.Element, tag: str, path: Path, label: str = "") -> str:
    text = (root.findtext(tag) or "").strip()
    if not text:
        raise _damaged(path, f"{label}has no {tag}")
    return text


def _number(root: ET.Element, tag: str, path: Path, label: str = "") -> float:
    text = _text(root, tag, path, label)
    try:
        if isfinite(number := float(text)):
            return number
    except ValueError:
        pass
    raise _damaged(path, f"{label}{tag} is {text[:40]!r}, not a number")


def _damaged(path: Path, problem: str) -> DamagedDataError:
    return DamagedDataError(f"{path} {problem}; unpack the annotations again, or take the file out")


# -- through the preprocessing ---------------------------------------------------------------------


def geometry(width: int, height: int) -> tuple[int, int, int, int]:
    """Return what resize-256-crop-224 does to an image: its resized size, and the crop's corner.

    Parameters
    ----------
    width, height
        Size of the original image in pixels.

    Returns
    -------
    tuple
        Width and height once the shorter side has 256 pixels (the longer is truncated), then left
        and top edge of the central crop of 224x224.
    """
    short = min(width, height)
    width, height = (int(_SHORT * side / short) for side in (width, height))
    left, top = (round((side - CROP) / 2) for side in (width, height))
    return width, height, left, top


def through(boxes: Any, preprocess: str) -> tuple[Any, Tensor]:
    """Move the boxes of an image to where `preprocess` puts them.

    Parameters
    ----------
    boxes
        `BoundingBoxes` [K,4] whose canvas is the image.
    preprocess
        One of `PREPROCESS`.

    Returns
    -------
    boxes
        `BoundingBoxes` [K,4] cut at the crop's edge.
    visible
        float32 [K] in [0,1]: the share of each box's area that lies in the crop. A box that was
        cropped away has share 0 and no area.

    Raises
    ------
    ValueError
        For an unknown `preprocess`.
    """
    from torchvision.transforms.v2 import functional as F

    if preprocess not in PREPROCESS:
        raise ValueError(f"unknown preprocess {preprocess!r}; known are {', '.join(PREPROCESS)}")
    if preprocess == "to_tensor":
        resized, cropped = boxes, F.clamp_bounding_boxes(boxes)
    else:
        height, width = boxes.canvas_size
        wide, high, left, top = geometry(width, height)
        resized = F.resize(boxes, [high, wide])
        cropped = F.crop(resized, top, left, CROP, CROP)
    before, after = _area(resized), _area(cropped)
    return cropped, torch.where(before > 0, after / before, 0).clamp(max=1)


# -- areas -----------------------------------------------------------------------------------------


def area_ratio(boxes: Tensor, height: int, width: int) -> Tensor:
    """Return (xmax - xmin)(ymax - ymin) / (W H) of boxes [...,4], float32 [...].

    A box without area gives 0. Boxes are taken as they are: cut them at the image's edge before, or
    one that sticks out counts for more than its visible part. Raises ValueError for another last
    dimension or an image without pixels.
    """
    if boxes.shape[-1:] != (4,):
        raise ValueError(f"boxes must be [...,4] (xmin, ymin, xmax, ymax), not {[*boxes.shape]}")
    if height < 1 or width < 1:
        raise ValueError(f"an image of {width}x{height} pixels has no area; give its size")
    return _area(boxes) / (height * width)


def image_areas(boxes: Tensor, height: int, width: int) -> ImageAreas:
    """Summarise the area ratios of one image's objects [K,4]; all numbers are 0 when K is 0.

    The union counts what several boxes cover once, so unlike a sum it is at most 1 for boxes in
    the image.
    """
    ratios = area_ratio(boxes, height, width)
    if not len(ratios):
        return ImageAreas(0, 0.0, 0.0, 0.0)
    union = _union(boxes) / (height * width)
    return ImageAreas(len(ratios), float(ratios.max()), float(ratios.mean()), union)


def by_class(ratios: Tensor, labels: Tensor, n_classes: int) -> ClassAreas:
    """Return mean and variance of the area ratio in each class.

    Parameters
    ----------
    ratios
        float [M], one per object (or image).
    labels
        int64 [M] in 0 … n_classes-1.
    n_classes
        Number of classes, C.

    Raises
    ------
    ValueError
        For lengths that differ and labels out of range.
    """
    if ratios.shape != labels.shape or ratios.ndim != 1:
        raise ValueError(f"ratios and labels must be [M], not {ratios.shape} and {labels.shape}")
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < n_classes:
        raise ValueError(f"labels must lie in 0..{n_classes - 1}; raise n_classes or drop others")
    values = ratios.double()
    count = torch.bincount(labels, minlength=n_classes)
    mean = torch.bincount(labels, values, n_classes) / count  # 0/0 is the NaN of an empty class
    deviation = (values - mean[labels]) ** 2
    variance = torch.bincount(labels, deviation, n_classes) / (count - 1).clamp(min=0)
    return ClassAreas(count, mean, variance)


def degenerate(boxes: Tensor, least_side: float = 0) -> Tensor:
    """Return bool [...]: whether a side of the box has `least_side` pixels or fewer.

    Where maxima were inclusive in the files (Tiny-ImageNet), `least_side=1` finds the boxes that
    have no area there.
    """
    return (boxes[..., 2:] - boxes[..., :2] <= least_side).any(-1)


def out_of_range(boxes: Tensor, height: int, width: int) -> Tensor:
    """Return bool [...]: whether the box leaves the image."""
    return (boxes[..., :2] < 0).any(-1) | (boxes[..., 2] > width) | (boxes[..., 3] > height)


def object_table(
    annotations: Iterable[Annotation], preprocess: str = "resize256-bicubic"
) -> pd.DataFrame:
    """Tabulate objects, one row each: image, name, ratio, ratio_crop and visible.

    `ratio` is the area ratio in the original image, `ratio_crop` that of what the crop of
    `preprocess` leaves of the box, and `visible` the share of its area that is left (0: cropped
    away).
    """
    import pandas as pd

    rows: list[tuple[str, str, float, float, float]] = []
    for one in annotations:
        cropped, visible = through(one.boxes, preprocess)
        ratio = area_ratio(one.boxes, one.height, one.width).tolist()
        in_crop = area_ratio(cropped, *cropped.canvas_size).tolist()
        images = [one.image] * len(one.names)
        rows += zip(images, one.names, ratio, in_crop, visible.tolist(), strict=True)
    return pd.DataFrame(rows, columns=["image", "name", "ratio", "ratio_crop", "visible"])


def _area(boxes: Tensor) -> Tensor:
    x1, y1, x2, y2 = boxes.as_subclass(Tensor).float().unbind(-1)
    return (x2 - x1).clamp(min=0) * (y2 - y1).clamp(min=0)


def _union(boxes: Tensor) -> float:
    """Return the area that boxes [K,4] cover together: the cells between their edges, each once."""
    x1, y1, x2, y2 = boxes.as_subclass(Tensor).double().unbind(-1)
    xs, ys = torch.cat([x1, x2]).unique(), torch.cat([y1, y2]).unique()  # sorted
    across = (x1[:, None] <= xs[:-1]) & (xs[1:] <= x2[:, None])  # [K,X-1]
    down = (y1[:, None] <= ys[:-1]) & (ys[1:] <= y2[:, None])  # [K,Y-1]
    covered = (down[:, :, None] & across[:, None, :]).any(0)  # [Y-1,X-1]
    return float((covered * ys.diff()[:, None] * xs.diff()).sum())
