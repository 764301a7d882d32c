"""ImageNet-C and Tiny-ImageNet-C in the released folders."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import official
import pytest
import torch

from tttlib import data
from tttlib.data import ImageSet, imagenet

COUNTS = {3: 2, 999: 1, 42: 6}


def check(found: ImageSet, made: list[tuple[Path, int]]) -> None:
    expected = np.stack([official.decoded(path) for path, _ in made])
    assert np.array_equal(found.images[:].permute(0, 2, 3, 1).numpy(), expected)
    assert found.labels.tolist() == [label for _, label in made]


@pytest.mark.parametrize(("place", "inside"), [("fog/5", True), ("weather/fog/5", False)])
def test_round_trip(tmp_path: Path, place: str, inside: bool) -> None:
    made = official.write_imagenet_c(tmp_path, COUNTS, place)
    root = tmp_path / "ImageNet-C" if inside else tmp_path
    found = data.load("imagenet-c", "test", root, corruption="fog")
    check(found, made)
    assert found.ids.tolist() == [int(path.stem[-8:]) for path, _ in made]
    assert found.name == "imagenet-c (9 of 50000 images)" and len(found.classes) == 1000
    assert found.images.preprocess == "to_tensor" and found.image_size == 224
    part = found.subset([4, 0])
    assert torch.equal(part.images[:], found.images[[4, 0]])


def test_fingerprints_tell_places_and_preprocessing_apart(tmp_path: Path) -> None:
    official.write_imagenet_c(tmp_path, {0: 1}, "extra/saturate/2")
    official.write_imagenet_c(tmp_path, {1: 1}, "noise/shot_noise/2")

    def load(corruption: str, **options: str) -> ImageSet:
        return data.load(
            "imagenet-c", "test", tmp_path, corruption=corruption, severity=2, **options
        )

    sets = [load("saturate"), load("shot_noise")]
    assert [one.labels.tolist() for one in sets] == [[0], [1]]
    sets += [load("saturate", preprocess=f"resize256-{kind}") for kind in ("bilinear", "bicubic")]
    assert len({one.fingerprint for one in sets}) == 4
    assert not torch.equal(sets[0].images[0], sets[2].images[0])


def test_subsets_say_which(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = official.write_imagenet_c(tmp_path, COUNTS)
    few = data.load("imagenet-c", "test", tmp_path, corruption="fog", subset="5000")
    check(few, [*made[:7], made[8]])
    assert few.name == "imagenet-c (5 a class, 8 of 5000 images)"
    complete = [(Path(f"{label}/{i}"), label) for label in range(1000) for i in range(50)]
    name, chosen = imagenet.choose("imagenet-c", complete, "5000", [])
    assert name == "imagenet-c (5 a class)" and len(chosen) == 5000
    assert imagenet.choose("imagenet-c", complete, None, []) == ("imagenet-c", complete)
    lines = [f"{imagenet.wnids()[label]}/{path.name}" for path, label in (made[8], made[1])]
    text = "\n".join(lines)
    monkeypatch.setattr(imagenet, "LIST_SHA256", hashlib.sha256(text.encode()).hexdigest())
    (tmp_path / "ImageNet-C" / imagenet.LIST_FILE).write_text(text)
    listed = data.load("imagenet-c", "test", tmp_path, corruption="fog", subset="5000")
    check(listed, [made[8], made[1]])
    assert listed.name == "imagenet-c (5000 list)"
    assert listed.fingerprint != few.fingerprint


@pytest.mark.parametrize("place", [".", "Tiny-ImageNet-C", "tiny-imagenet-200", "tsv"])
def test_tiny(tmp_path: Path, place: str) -> None:
    made = official.write_tiny_c(tmp_path)
    lists = tmp_path / "tiny-imagenet-200"
    if place == "tsv":
        lines = [f"{i}\t{w}\t{w} name, other" for i, w in enumerate(sorted(official.TINY_WNIDS))]
        (tmp_path / "tiny-imagenet-classes.tsv").write_text("\n".join(lines))
        (lists / "wnids.txt").unlink()
    elif place != "tiny-imagenet-200":
        for file in ("wnids.txt", "words.txt"):
            (lists / file).rename(tmp_path / place / file)
    found = data.load("tiny-imagenet-c", "test", tmp_path, corruption="fog")
    check(found, made)
    assert found.image_size == 64 and found.labels.tolist() == [0, 0, 1, 1]
    assert len(found.classes) == 3
    assert found.classes[1] == ("n02000003 name" if place == "tsv" else "cat")
    assert found.ids.tolist() == [3100, 700, 3101, 701]
    assert found.name == "tiny-imagenet-c (4 of 10000 images)"
