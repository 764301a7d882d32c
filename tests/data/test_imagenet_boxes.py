"""ImageNet and ImageNet-C with the boxes of the official annotations."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path

import official
import pytest
import torch

from tttlib import boxes, data
from tttlib.data import MissingDataError, imagenet, imagenet_boxes

SIZE = (400, 200)  # becomes 512x256, the crop begins at (144, 16)


def write_imagenet(root: Path, place: str, *, flat: bool = False) -> list[Path]:
    """Three images of class 5, the last one's object in a corner, and one of class 9."""
    five, nine = imagenet.wnids()[5], imagenet.wnids()[9]
    second = (five, (120, 0, 200, 90))
    objects: dict[int, tuple[str, list[tuple[str, official.Box]]]] = {
        1: (five, [(five, (150, 50, 250, 150))]),
        2: (five, [(five, (0, 0, 120, 200)), (nine, (100, 0, 300, 200)), second]),
        3: (five, [(five, (0, 0, 50, 50))]),
        4: (nine, [(nine, (7, 7, 7, 9))]),
    }
    made = []
    for number, (wnid, found) in objects.items():
        name = official.val_name(number)
        folder = root / "val" if flat else root / "val" / wnid
        made.append(official.write_jpeg(folder / name, number, SIZE))
        official.write_voc(root / place, Path(name).stem, SIZE, found)
    return made


EXPECTED = [
    [48, 48, 176, 176],
    [9.6, 0, 112, 99.2],  # the larger one shows less
    [0, 0, 0, 48],  # cropped away
    [0, 0, 0, 0],  # had no area
]


@pytest.mark.parametrize("place", [*imagenet_boxes.FOLDERS, "val"])
def test_imagenet_with_boxes(tmp_path: Path, place: str, caplog: pytest.LogCaptureFixture) -> None:
    flat = place == "val"  # both archives unpacked in one place
    write_imagenet(tmp_path, place, flat=flat)
    if flat:
        official.write_devkit(tmp_path, {1: 5, 2: 5, 3: 5, 4: 9})
    with caplog.at_level(logging.WARNING):
        found = data.load("imagenet", "valid", tmp_path, boxes=True)
    assert found.boxes is not None and type(found.boxes) is torch.Tensor
    assert found.ids.tolist() == [1, 2, 3, 4] and found.boxes.dtype == torch.float32
    torch.testing.assert_close(found.boxes, torch.tensor(EXPECTED))
    assert boxes.degenerate(found.boxes).tolist() == [False, False, True, True]
    assert "of 6 boxes, 0 stuck out of their image and were cut, 1 had no area" in caplog.text
    plain = data.load("imagenet", "valid", tmp_path)
    assert plain.boxes is None and plain.fingerprint == found.fingerprint


def test_imagenet_c_has_the_boxes_of_the_originals(tmp_path: Path) -> None:
    write_imagenet(tmp_path, "ILSVRC2012_bbox_val_v3/val")
    for number, label in ((1, 5), (2, 5), (3, 5), (4, 9)):
        folder = tmp_path / "ImageNet-C" / "fog" / "5" / imagenet.wnids()[label]
        official.write_jpeg(folder / official.val_name(number), number)
    load = partial(data.load, "imagenet-c", "test", tmp_path, corruption="fog")
    assert load().boxes is None
    torch.testing.assert_close(load(boxes=True).boxes, torch.tensor(EXPECTED))
    again = load(boxes=True, preprocess="resize256-bilinear").boxes  # of the released images
    assert again is not None
    expected = (torch.tensor(EXPECTED[:2]) * 256 / 224 - 16).clamp(0, 224)
    torch.testing.assert_close(again[:2], expected)


def test_boxes_that_are_not_there(tmp_path: Path) -> None:
    for path in write_imagenet(tmp_path, "elsewhere"):
        assert path.is_file()
    with pytest.raises(MissingDataError, match=r"ILSVRC2012_bbox_val_v3/val, .*load without boxes"):
        data.load("imagenet", "valid", tmp_path, boxes=True)


def test_the_objects_of_a_folder(tmp_path: Path) -> None:
    made = write_imagenet(tmp_path, "val_annotations")
    folder = imagenet_boxes.find("imagenet", [tmp_path / "none", tmp_path, tmp_path])
    assert folder == tmp_path / "val_annotations"
    found = imagenet_boxes.of_images(folder, made[1::-1])
    assert [one.image for one in found] == [path.stem for path in made[1::-1]]
    table = boxes.object_table(found)
    five, nine = imagenet.wnids()[5], imagenet.wnids()[9]
    assert table.name.tolist() == [five, nine, five, five]
    assert table.ratio.tolist() == pytest.approx([0.3, 0.5, 0.09, 0.125])
