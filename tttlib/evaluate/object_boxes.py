"""Where the object is in each image, how large it is, and how much of it the crop takes away."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from tttlib.boxes import Annotation, area_ratio, degenerate, image_areas, object_table, through
from tttlib.data import ImageSet, data_root


def object_geometry(
    dataset: ImageSet,
    annotations: Sequence[Annotation] | None = None,
    *,
    preprocess: str = "resize256-bicubic",
) -> pd.DataFrame:
    """Return size, place and shape of the object of each image, in the order of the dataset.

    Parameters
    ----------
    dataset
        Images with boxes.
    annotations
        Those of the same images in the same order (see `annotations_of`), for sets whose boxes went
        through `preprocess`; None for images that are served as they are.
    preprocess
        How the images were resized and cropped.

    Returns
    -------
    DataFrame
        One row per image with id, label, class and

        has_box
            False without a box, or if it has no area in the image served; the numbers below are
            then missing (`cut` may be 1: cropped away);
        area
            the area ratio of the box in the image served;
        area_original
            the area ratio of the same object in the original image; `area` without annotations;
        objects
            how many objects the annotation lists; 1 without;
        area_union
            the share of the original image that all its objects cover together;
        centre_distance
            of the centre of the box from that of the image, in half diagonals (1 is a corner);
        aspect
            width / height of the box;
        cut
            the share of the area of the object that the crop takes away.

    Raises
    ------
    ValueError
        If the dataset has no boxes, or another number of images than there are annotations.
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
    area = area_ratio(boxes, side, side)
    values = {
        "area": area,
        "area_original": area,
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
        originals = [
            _original(annotation, box, preprocess)
            for annotation, box in zip(annotations, boxes, strict=True)
        ]
        for name, column in pd.DataFrame(originals, index=table.index).items():
            table[name] = column
    return table


def _original(annotation: Annotation, served: Tensor, preprocess: str) -> dict[str, float]:
    """Return the columns that tell of the object in its original image."""
    areas = image_areas(annotation.boxes, annotation.height, annotation.width)
    row: dict[str, float] = {"objects": areas.n, "area_union": areas.union}
    if not areas.n:
        return row | {"area_original": np.nan, "cut": np.nan}
    seen, visible = through(annotation.boxes, preprocess)
    same = int((seen.as_subclass(Tensor) - served).abs().sum(-1).argmin())
    ratio = float(area_ratio(annotation.boxes, annotation.height, annotation.width)[same])
    return row | {"area_original": ratio, "cut": 1 - float(visible[same])}


def object_ratios(
    dataset: ImageSet, annotations: Sequence[Annotation] | None = None
) -> pd.DataFrame:
    """Return the area ratio of every object in its original image, in columns label and ratio.

    Parameters
    ----------
    dataset
        Images with boxes.
    annotations
        As in `object_geometry`; every object that they list counts. None: one box an image.
    """
    labels = dataset.labels.numpy()
    if annotations is None:
        table = object_geometry(dataset)
        return table.loc[table["has_box"], ["label", "area"]].rename(columns={"area": "ratio"})
    label_of = {one.image: label for one, label in zip(annotations, labels, strict=True)}
    table = object_table(annotations)
    return pd.DataFrame({"label": table["image"].map(label_of), "ratio": table["ratio"]})


def annotations_of(dataset: ImageSet, root: str | Path | None = None) -> list[Annotation] | None:
    """Return the annotations of the files of an ImageNet validation set.

    The result is None for sets that are no such files.

    Raises
    ------
    MissingDataError
        If the set has files but the folder of XML files is not found.
    """
    paths = getattr(dataset.images, "paths", None)
    if paths is None or not dataset.name.startswith("imagenet"):
        return None
    from tttlib.data import imagenet_boxes  # it needs torchvision

    folders = [folder for path in paths[:1] for folder in (path.parent.parent, path.parent)]
    places = [data_root(root), *folders]
    return imagenet_boxes.of_images(imagenet_boxes.find(dataset.name, places), paths)


def with_objects(rows: pd.DataFrame, objects: pd.DataFrame) -> pd.DataFrame:
    """Return result rows with the columns of `objects` (one row per id); no row is lost.

    Raises
    ------
    ValueError
        If an image of the rows, which is named, is not in `objects`.
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
    """Return how many images there are with and without an object box, in one row."""
    boxed = int(objects["has_box"].sum())
    counts = {
        "images": len(objects),
        "with box": boxed,
        "without box": len(objects) - boxed,
        "cut by the crop": int((objects["cut"] > 0).sum()),
        "several objects": int((objects["objects"] > 1).sum()),
    }
    return pd.DataFrame([counts])
