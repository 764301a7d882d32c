"""ImageNet's validation images in both layouts, and the subsets."""

from __future__ import annotations

import hashlib
from pathlib import Path

import official
import pytest

from tttlib import data
from tttlib.data import DamagedDataError, ImageSet, imagenet

LABELS = {999: 1, 0: 2, 134: 7}  # label -> images


def write(folder: Path, *, flat: bool) -> list[tuple[Path, int]]:
    """The files and labels in the order in which the layout is served."""
    made, number = [], 1
    for label, count in LABELS.items():
        for _ in range(count):
            name = official.val_name(number)
            place = folder if flat else folder / imagenet.wnids()[label]
            made.append((official.write_jpeg(place / name, number, (260, 300)), label))
            number += 3
    return made if flat else sorted(made, key=lambda one: (one[1], one[0].name))


def check(found: ImageSet, made: list[tuple[Path, int]]) -> None:
    assert [path for path, _ in made] == found.images.paths
    assert found.labels.tolist() == [label for _, label in made]
    assert found.ids.tolist() == [int(path.stem[-8:]) for path, _ in made]
    assert found.images[:].shape == (len(made), 3, 224, 224)


def test_class_order() -> None:
    wnids, names = imagenet.wnids(), imagenet.class_names()
    assert len(wnids) == len(names) == 1000 and list(wnids) == sorted(wnids)
    assert (wnids[0], wnids[999]) == ("n01440764", "n15075141")
    assert [names[i] for i in (0, 134, 517, 999)] == ["tench", "crane", "crane", "toilet tissue"]


@pytest.mark.parametrize("place", imagenet.FOLDERS)
def test_wnid_folders(tmp_path: Path, place: str) -> None:
    made = write(tmp_path / place, flat=False)
    found = data.load("imagenet", "val", tmp_path)
    check(found, made)
    assert found.name == "imagenet (10 of 50000 images)" and found.split == "valid"
    assert found.images.preprocess == "resize256-bicubic"
    assert found.classes == imagenet.class_names() and found.boxes is None
    other = data.load("imagenet", "valid", tmp_path, preprocess="resize256-bilinear")
    assert other.fingerprint != found.fingerprint


@pytest.mark.parametrize("kit", ["beside", "in the folder", "in the root"])
def test_flat_archive(tmp_path: Path, kit: str) -> None:
    made = write(tmp_path / "ImageNet" / "val", flat=True)
    labels = {int(path.stem[-8:]): label for path, label in made}
    folder = official.write_devkit(
        tmp_path if kit == "in the root" else made[0][0].parents[1], labels
    )
    if kit == "in the folder":
        for file in folder.iterdir():
            file.rename(made[0][0].parent / file.name)
    check(data.load("imagenet", "valid", tmp_path), made)


def test_five_a_class(tmp_path: Path) -> None:
    made = write(tmp_path / "val", flat=False)
    found = data.load("imagenet", "valid", tmp_path, subset="5000")
    check(found, [*made[:2], *made[2:7], *made[9:]])
    assert found.name == "imagenet (5 a class, 8 of 5000 images)"


@pytest.mark.parametrize(("flat", "place"), [(False, "."), (True, "val")])
def test_the_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flat: bool, place: str) -> None:
    made = write(tmp_path / "val", flat=flat)
    official.write_devkit(tmp_path, {int(path.stem[-8:]): label for path, label in made})
    chosen = [made[i] for i in (7, 2, 9, 0)]
    text = "\n".join(f"{imagenet.wnids()[label]}/{path.name}" for path, label in chosen)
    monkeypatch.setattr(imagenet, "LIST_SHA256", hashlib.sha256(text.encode()).hexdigest())
    listed = tmp_path / place / "imagenet_test_image_ids.txt"
    listed.write_text(text)
    found = data.load("imagenet", "valid", tmp_path, subset="5000")
    check(found, chosen)
    assert found.name == "imagenet (5000 list)"
    chosen[0][0].unlink()
    with pytest.raises(DamagedDataError, match=f"lists .*/{chosen[0][0].name}, which is missing"):
        data.load("imagenet", "valid", tmp_path, subset="5000")


def test_the_list_disagrees_with_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = write(tmp_path / "val", flat=False)
    text = f"{imagenet.wnids()[5]}/{made[0][0].name}"
    monkeypatch.setattr(imagenet, "LIST_SHA256", hashlib.sha256(text.encode()).hexdigest())
    (tmp_path / imagenet.LIST_FILE).write_text(text)
    said = f"{made[0][0]} has the class n01440764, but .* says"
    with pytest.raises(DamagedDataError, match=said):
        data.load("imagenet", "valid", tmp_path, subset="5000")
