"""Object boxes: what is read, where preprocessing moves it, and how much area it has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.tv_tensors import BoundingBoxes

from tttlib import boxes, data
from tttlib.boxes import PREPROCESS
from tttlib.data import DamagedDataError
from tttlib.data.image_files import central

DOG, CAT = "n02085620", "n02123045"
IMAGE = "ILSVRC2012_val_00000007"


def on(height: int, width: int, *values: tuple[float, float, float, float]) -> BoundingBoxes:
    content = torch.tensor(values, dtype=torch.float32).reshape(-1, 4)
    return BoundingBoxes(content, format="XYXY", canvas_size=(height, width))


def write(folder: Path, *found: tuple[str, tuple[float, float, float, float]]) -> Path:
    """The annotation of an image of 500x375; test_imagenet_boxes.py has the official layout."""
    objects = "".join(
        f"<object><name>{name}</name><bndbox><ymax>{y2}</ymax><xmax>{x2}</xmax>"
        f"<xmin>{x1}</xmin><ymin>{y1}</ymin></bndbox></object>"
        for name, (x1, y1, x2, y2) in found
    )
    path = folder / f"{IMAGE}.xml"
    path.write_text(
        f"<annotation><filename>{IMAGE}</filename>"
        f"<size><width>500</width><height>375</height></size>{objects}</annotation>"
    )
    return path


# -- reading ---------------------------------------------------------------------------------------


def test_an_annotation_is_read(tmp_path: Path) -> None:
    path = write(tmp_path, (DOG, (111, 108, 441, 193)), (CAT, (0, 0, 500, 375)))
    one = boxes.read_voc(path)
    assert (one.image, one.width, one.height) == (IMAGE, 500, 375)
    assert one.names == (DOG, CAT) and (one.clipped, one.dropped) == (0, 0)
    assert one.boxes.dtype == torch.float32 and one.boxes.canvas_size == (375, 500)
    assert one.boxes.tolist() == [[111, 108, 441, 193], [0, 0, 500, 375]]
    ratio = boxes.area_ratio(one.boxes, one.height, one.width)
    assert ratio.tolist() == pytest.approx([330 * 85 / (500 * 375), 1])  # E5 as published


def test_inclusive_maxima_and_a_name_with_suffix(tmp_path: Path) -> None:
    path = write(tmp_path, (DOG, (0, 0, 499, 374)), (CAT, (7, 8, 7, 8)))
    path.write_text(path.read_text().replace(f"{IMAGE}<", f"{IMAGE}.JPEG<"))
    one = boxes.read_voc(str(path), inclusive=True)
    assert one.boxes.tolist() == [[0, 0, 500, 375], [7, 8, 8, 9]] and one.image == IMAGE
    with pytest.raises(DamagedDataError, match="object 2: the box 7 8 7 8 has no area"):
        boxes.read_voc(path)


def test_what_strict_refuses_is_repaired_and_counted(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        (CAT, (10, 20, 30, 40)),
        (DOG, (-1, 5, 501, 376)),  # sticks out by a pixel
        (DOG, (9, 9, 9, 50)),  # no width
        (DOG, (30, 9, 20, 50)),  # the wrong way round
        (DOG, (500, 3, 501, 9)),  # nothing of it inside
    )
    with pytest.raises(DamagedDataError, match=f"{path} object 2: .* leaves its image of 500x375"):
        boxes.read_voc(path)
    one = boxes.read_voc(path, strict=False)
    assert one.boxes.tolist() == [[10, 20, 30, 40], [0, 5, 500, 375]] and one.names == (CAT, DOG)
    assert (one.clipped, one.dropped) == (1, 3)
    none = boxes.read_voc(write(tmp_path, (DOG, (5, 5, 5, 5))), strict=False)
    assert none.boxes.shape == (0, 4) and none.names == () and none.dropped == 1


@pytest.mark.parametrize("strict", [True, False])
def test_a_box_of_another_image_is_never_repaired(tmp_path: Path, strict: bool) -> None:
    for box in ((501, 5, 600, 9), (5, 376, 9, 400), (-9, 5, -1, 9), (5, -9, 9, -1)):
        path = write(tmp_path, (DOG, box))
        with pytest.raises(DamagedDataError, match="lies outside its image of 500x375"):
            boxes.read_voc(path, strict=strict)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_document_type_is_refused_in_every_encoding(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / f"{IMAGE}.xml"
    head = f'<?xml version="1.0" encoding="{encoding}"?><!DOCTYPE annotation>'
    path.write_bytes((head + "<annotation/>").encode(encoding))
    with pytest.raises(DamagedDataError, match="declares a document type"):
        boxes.read_voc(path)


# -- through the preprocessing ---------------------------------------------------------------------


@pytest.mark.parametrize("size", [(500, 375), (375, 500), (224, 224), (331, 257), (64, 900)])
@pytest.mark.parametrize("preprocess", PREPROCESS[1:])
def test_a_painted_box_lands_where_it_is_said_to(size: tuple[int, int], preprocess: str) -> None:
    width, height = size
    x1, x2 = width // 2 - width // 5, width // 2 + width // 7
    y1, y2 = height // 2 - height // 9, height // 2 + height // 4
    canvas = np.zeros((height, width), np.uint8)
    canvas[y1:y2, x1:x2] = 255
    filters = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
    picture = central(Image.fromarray(canvas), filters[preprocess.split("-")[1]])
    painted = np.asarray(picture) > 127
    (seen,), visible = boxes.through(on(height, width, (x1, y1, x2, y2)), preprocess)
    down, across = np.flatnonzero(painted.any(1)), np.flatnonzero(painted.any(0))
    measured = [across[0], down[0], across[-1] + 1, down[-1] + 1]
    assert seen.tolist() == pytest.approx(measured, abs=0.51 * max(1, 256 / min(size)))
    inside = 1.0
    if width > height:  # only the crop cuts here
        whole = (x2 - x1) * int(256 * width / height) / width
        inside = float(seen[2] - seen[0]) / whole
    elif height > width:
        inside = float(seen[3] - seen[1]) / ((y2 - y1) * int(256 * height / width) / height)
    assert visible.item() == pytest.approx(inside, abs=1e-5)


def test_the_crop_by_hand() -> None:
    """400x200 becomes 512x256; the crop begins at (144, 16)."""
    found, visible = boxes.through(
        on(200, 400, (150, 50, 250, 150), (100, 0, 200, 200), (0, 0, 50, 50), (360, 90, 400, 99)),
        "resize256-bicubic",
    )
    assert found.canvas_size == (224, 224)
    assert found[0].tolist() == pytest.approx([48, 48, 176, 176])
    assert found[1].tolist() == pytest.approx([0, 0, 112, 224])
    assert visible.tolist() == pytest.approx([1, (112 * 224) / (128 * 256), 0, 0])
    assert boxes.area_ratio(found, 224, 224)[2:].tolist() == [0, 0]
    assert ((found >= 0) & (found <= 224)).all()


def test_to_tensor_leaves_boxes_where_they_are() -> None:
    given = on(64, 64, (0, 0, 64, 64), (3, 4, 5, 6), (60, 60, 68, 64))
    found, visible = boxes.through(given, "to_tensor")
    assert found.tolist() == [[0, 0, 64, 64], [3, 4, 5, 6], [60, 60, 64, 64]]
    assert visible.tolist() == [1, 1, 0.5]
    found, visible = boxes.through(on(300, 200), "resize256-bilinear")
    assert found.shape == (0, 4) and visible.shape == (0,)
    with pytest.raises(ValueError, match="unknown preprocess 'resize'; known are to_tensor, res"):
        boxes.through(on(300, 200), "resize")


# -- areas -----------------------------------------------------------------------------------------


def test_area_ratio() -> None:
    given = torch.tensor([[[0, 0, 32, 32], [4, 8, 8, 24]], [[5, 5, 5, 9], [9, 9, 5, 5]]])
    ratio = boxes.area_ratio(given, 32, 64)
    assert ratio.dtype == torch.float32 and type(boxes.area_ratio(on(9, 9), 9, 9)) is torch.Tensor
    assert ratio.tolist() == [[0.5, 64 / 2048], [0, 0]]
    with pytest.raises(ValueError, match=r"boxes must be \[...,4\] .* not \[4, 5\]"):
        boxes.area_ratio(torch.zeros(4, 5), 32, 32)
    with pytest.raises(ValueError, match="an image of 32x0 pixels"):
        boxes.area_ratio(torch.zeros(4), 0, 32)


def test_what_several_boxes_cover_counts_once() -> None:
    given = on(10, 20, (0, 0, 10, 10), (5, 5, 15, 10), (5, 5, 15, 10), (16, 0, 16, 9))
    areas = boxes.image_areas(given, 10, 20)
    assert areas.n == 4 and areas.largest == 0.5
    assert areas.mean == pytest.approx((0.5 + 0.25 + 0.25) / 4)
    assert areas.union == pytest.approx((100 + 25) / 200)
    assert boxes.image_areas(on(10, 20), 10, 20) == (0, 0, 0, 0)


corner = st.integers(0, 12)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(corner, corner, corner, corner), max_size=6))
def test_union_is_that_of_painted_pixels(found: list[tuple[int, int, int, int]]) -> None:
    canvas = np.zeros((12, 12), bool)
    for x1, y1, x2, y2 in found:
        canvas[y1:y2, x1:x2] = True
    assert boxes.image_areas(on(12, 12, *found), 12, 12).union == pytest.approx(canvas.mean())


def test_by_class_is_numpys() -> None:
    random = np.random.default_rng(0)
    ratios, labels = random.random(50).astype(np.float32), random.integers(0, 4, 50)
    labels[labels == 2] = 3
    labels[0], ratios[0] = 4, 0.25
    found = boxes.by_class(torch.from_numpy(ratios), torch.from_numpy(labels), 6)
    assert found.n.tolist() == [(labels == c).sum() for c in range(6)]
    for c in (0, 1, 3):
        own = ratios[labels == c].astype(float)
        assert found.mean[c].item() == pytest.approx(own.mean())
        assert found.variance[c].item() == pytest.approx(own.var(ddof=1))
    assert found.mean[4] == 0.25 and found.mean[[2, 5]].isnan().all()
    assert found.variance[[2, 4, 5]].isnan().all()
    with pytest.raises(ValueError, match=r"labels must lie in 0\.\.3"):
        boxes.by_class(torch.ones(1), torch.tensor([4]), 4)
    with pytest.raises(ValueError, match="must be "):
        boxes.by_class(torch.ones(2), torch.tensor([0]), 4)


def test_degenerate_and_out_of_range() -> None:
    given = on(10, 20, (0, 0, 20, 10), (3, 3, 3, 9), (3, 3, 4, 9), (-1, 0, 5, 5), (0, 0, 20, 11))
    assert boxes.degenerate(given).tolist() == [False, True, False, False, False]
    assert boxes.degenerate(given, 1).tolist() == [False, True, True, False, False]
    assert boxes.out_of_range(given, 10, 20).tolist() == [False, False, False, True, True]


def test_object_table(tmp_path: Path) -> None:
    path = write(tmp_path, (DOG, (0, 0, 50, 50)), (CAT, (100, 75, 400, 300)))
    table = boxes.object_table([boxes.read_voc(path)])
    assert table.columns.tolist() == ["image", "name", "ratio", "ratio_crop", "visible"]
    assert table.name.tolist() == [DOG, CAT] and set(table.image) == {IMAGE}
    assert table.ratio.tolist() == pytest.approx([2500 / 187500, 67500 / 187500])
    scale = 341 / 500 * 256 / 375
    assert table.ratio_crop[1] == pytest.approx(67500 * scale / 224**2, rel=1e-5)
    assert table.visible.tolist() == [0, 1]
    assert len(boxes.object_table([])) == 0


@pytest.mark.real_data
def test_tiny_imagenets_boxes(data_root: Path) -> None:
    valid = data.load("tiny-imagenet", "valid", data_root)
    assert valid.boxes is not None
    assert int(boxes.degenerate(valid.boxes, 1).sum()) == 41  # without area in the files
    assert not boxes.out_of_range(valid.boxes, 64, 64).any()
    ratio = boxes.area_ratio(valid.boxes, 64, 64)
    assert float((ratio == 1).float().mean()) == pytest.approx(0.057, abs=0.0005)
