"""Where the object is in each image, how large, and how much of it the crop takes away."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from tttlib.boxes import (
    Annotation,
    area_ratio,
    degenerate,
    image_areas,
    object_table,
    through,
)
from tttlib.data import ImageSet, data_root


def object_geometry(
    dataset: ImageSet,
    annotations: Sequence[Annotation] | None = None,
    *,
    preprocess: str = "resize256-bicubic",
) -> pd.DataFrame:
    """One row per image, in the set's order: its object's size, place and shape.

    annotations  of the same images in the same order (see `annotations_of`), for sets whose boxes
                 went through `preprocess`; None: the images are served as they are
    Columns: id, label, class and
    has_box          False: no box, or one without area in the image served; the numbers below are
                     then missing (`cut` may be 1: cropped away)
    area             area ratio of the box in the image served
    area_original    area ratio of the same object in the original image (E5); `area` without
                     annotations
    objects          how many the annotation lists; 1 without
    area_union       share of the original image that all its objects cover together
    centre_distance  of the box's centre from the image's, in half diagonals: 1 is a corner
    aspect           width / height of the box
    cut              share of the object's area that the crop takes away
    Raises ValueError for a set without boxes or annotations of another number.
    """
    if dataset.boxes is None:
        raise ValueError(
            f"{dataset.name!r} has no boxes; load it with boxes (imagenet: boxes=True) or take "
            "scenes or tiny-imagenet"
        )
    if annotations is not None and len(annotations) != len(dataset):
        raise ValueError(f"{len(dataset)} images but {len(annotations)} annotations")
    side = dataset.image_size
    boxes = dataset.boxes.float()  # [N,4]
    lost = ~torch.isfinite(boxes).all(-1) | degenerate(boxes.nan_to_num())
    width, height = (boxes[:, 2:] - boxes[:, :2]).unbind(-1)
    off = (boxes[:, :2] + boxes[:, 2:]) / 2 - side / 2
    values = {
        "area": area_ratio(boxes, side, side),
        "area_original": area_ratio(boxes, side, side),
        "centre_distance": off.norm(dim=-1) / (side / 2**0.5),
        "aspect": width / height,
        "cut": torch.zeros(len(boxes)),
    }
    table = pd.DataFrame(
        {
            "id": dataset.ids.numpy(),
            "label": dataset.labels.numpy(),
            "class": [dataset.classes[i] for i in dataset.labels],
            "has_box": ~lost.numpy(),
            **{k: v.double().masked_fill(lost, float("nan")).numpy() for k, v in values.items()},
            "objects": (~lost).long().numpy(),
        }
    )
    table["area_union"] = table["area"]
    if annotations is not None:
        found = [
            _original(one, box, preprocess) for one, box in zip(annotations, boxes, strict=True)
        ]
        for name, column in pd.DataFrame(found, index=table.index).items():
            table[name] = column
    return table


def _original(one: Annotation, served: Tensor, preprocess: str) -> dict[str, float]:
    """What the original image says of the object that the set serves."""
    areas = image_areas(one.boxes, one.height, one.width)
    found: dict[str, float] = {"objects": areas.n, "area_union": areas.union}
    if not areas.n:
        return found | {"area_original": np.nan, "cut": np.nan}
    seen, visible = through(one.boxes, preprocess)
    same = int((seen.as_subclass(Tensor) - served).abs().sum(-1).argmin())
    ratio = float(area_ratio(one.boxes, one.height, one.width)[same])
    return found | {"area_original": ratio, "cut": 1 - float(visible[same])}


def object_ratios(
    dataset: ImageSet, annotations: Sequence[Annotation] | None = None
) -> pd.DataFrame:
    """Area ratio of every object in its original image (E5): columns label and ratio.

    annotations  as in `object_geometry`, every object they list counts; None: one box an image
    """
    labels = dataset.labels.numpy()
    if annotations is None:
        found = object_geometry(dataset)
        return found.loc[found["has_box"], ["label", "area"]].rename(columns={"area": "ratio"})
    label_of = {one.image: label for one, label in zip(annotations, labels, strict=True)}
    table = object_table(annotations)
    return pd.DataFrame({"label": table["image"].map(label_of), "ratio": table["ratio"]})


def annotations_of(dataset: ImageSet, root: str | Path | None = None) -> list[Annotation] | None:
    """The annotations of an ImageNet validation set's files; None for sets that are no such files.

    Raises MissingDataError where the set has files but the XML folder is not found.
    """
    paths = getattr(dataset.images, "paths", None)
    if paths is None or not dataset.name.startswith("imagenet"):
        return None
    from tttlib.data import imagenet_boxes  # it needs torchvision

    base = data_root(root)
    places = [base, *(p for path in paths[:1] for p in (path.parent.parent, path.parent))]
    return imagenet_boxes.of_images(imagenet_boxes.find(dataset.name, places), paths)


def with_objects(rows: pd.DataFrame, objects: pd.DataFrame) -> pd.DataFrame:
    """Result rows with the columns of `objects` (one row per id) joined on; no row is lost.

    Raises ValueError when an image of the rows is not in `objects`, naming it.
    """
    unknown = ~rows["id"].isin(objects["id"])
    if unknown.any():
        raise ValueError(
            f"image {rows.loc[unknown, 'id'].iloc[0]} has no row among the objects; describe the "
            "set that the rows come from"
        )
    new = [c for c in objects if c == "id" or c not in rows]
    return rows.merge(objects[new], on="id", how="left", validate="many_to_one")


def coverage(objects: pd.DataFrame) -> pd.DataFrame:
    """How many images there are, with and without an object box, in one row."""
    boxed = int(objects["has_box"].sum())
    cut = int((objects["cut"] > 0).sum())
    several = int((objects["objects"] > 1).sum())
    counts = {"images": len(objects), "with box": boxed, "without box": len(objects) - boxed}
    return pd.DataFrame([{**counts, "cut by the crop": cut, "several objects": several}])
