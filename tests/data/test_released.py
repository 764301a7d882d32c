"""Corrupted images from released files: the ones of the same number, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import official
import pytest
import torch
from PIL import Image
from torchvision import transforms
from torchvision.transforms import InterpolationMode

from tttlib import corruptions, data, evaluate, results, streams
from tttlib.data import imagenet
from tttlib.models import zoo


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """CIFAR-10 and CIFAR-10-C of four images, whose labels agree."""
    _, labels = official.write_cifar_c(tmp_path)
    official.write_cifar(tmp_path, n=4)
    batch = official.cifar_batch(official.pixels(4, 5), labels.tolist())
    (tmp_path / "cifar-10-batches-py" / "test_batch").write_bytes(official.python2(batch))
    return tmp_path


def test_a_stream_looks_them_up(root: Path) -> None:
    fog = np.load(root / "CIFAR-10-C" / "fog.npy").transpose(0, 3, 1, 2)
    images = data.load("cifar10+cifar10-c", "test", root).subset([2, 0])
    stream = streams.continual(images, ["fog", "clean"], severity=3, batch_size=2)
    (seen, clean) = stream
    expected = fog[2 * 4 :][images.ids[seen.index].numpy()]
    assert ((255 * seen.images).round().numpy() == expected).all()
    assert torch.equal((255 * clean.images).round().byte(), images.images[clean.index])


def test_the_name_and_the_fingerprint_say_so(root: Path) -> None:
    clean, both = (data.load(name, "test", root) for name in ("cifar10", "cifar10+cifar10-c"))
    assert both.name == "cifar10+cifar10-c" and both.fingerprint != clean.fingerprint
    assert data.load("cifar10+cifar10-c", "train", root).released is None
    assert evaluate.describe(zoo.load("wrn-scenes"), both)["dataset"] == both.name


def test_rows_say_where_the_images_come_from(root: Path) -> None:
    store = results.Store(root / "results")
    stream = streams.continual(data.load("cifar10+cifar10-c", "test", root), ["fog"], batch_size=4)
    net = zoo.load("wrn-cifar10-jpeg")
    evaluate.adaptation(net, stream, "source", store=store, progress=False)
    (path,) = store.folder.glob("adaptation-*.parquet")
    assert results.provenance(path)["protocol"]["corruption"] == "the files of cifar10-c"


def test_what_does_not_fit_is_told(root: Path) -> None:
    images = data.load("cifar10+cifar10-c", "test", root)
    with pytest.raises(ValueError, match=r"severities 1 to 5, not 2.5; .*leave .\+cifar10-c. out"):
        streams.corrupted(images, [0], "fog", 2.5)
    with pytest.raises(FileNotFoundError, match=r"snow.npy is not there"):
        streams.continual(images, ["snow"], batch_size=2)
    with pytest.raises(ValueError, match="has no image 9 "):
        streams.corrupted(replace(images, ids=images.ids + 9), [0], "fog", 5)
    with pytest.raises(ValueError, match="released corrupted files; load 'cifar10-c' itself"):
        images.corrupted("fog", 5)
    with pytest.raises(ValueError, match=r"unknown corrupted files 'x'; known are cifar10-c, "):
        data.load("cifar10+x", "test", root)
    with pytest.raises(ValueError, match="cifar10-c has other labels than scenes"):
        images.released.checked(data.load("scenes", "test", n=4), "fog", 5)


def test_without_files_the_corruption_is_made(root: Path) -> None:
    images = data.load("cifar10", "test", root)
    expected = corruptions.corrupt(images.images[:2], "fog", 5, ids=images.ids[:2], seed=0)
    assert torch.equal(streams.corrupted(images, [0, 1], "fog", 5), expected)


# Clean photographs and released files have preprocessings of their own, as the two papers do it.
@pytest.mark.parametrize(
    ("preprocess", "clean", "corrupted"),
    [
        ("", "resize256-bicubic", "to_tensor"),  # PALM
        ("resize256-bicubic", "resize256-bicubic", "resize256-bicubic"),  # TTT-MAE
        ("resize256-bilinear+to_tensor", "resize256-bilinear", "to_tensor"),
        ("resize256-bicubic+resize256-bilinear", "resize256-bicubic", "resize256-bilinear"),
    ],
)
def test_both_halves_are_preprocessed_as_told(
    preprocess: str, clean: str, corrupted: str, tmp_path: Path
) -> None:
    made = official.write_imagenet_c(tmp_path, {3: 2, 7: 1})
    for path, label in made:
        place = tmp_path / "ImageNet" / "val" / imagenet.wnids()[label] / path.name
        official.write_jpeg(place, label, (300, 260))
    both = data.load("imagenet+imagenet-c", "valid", tmp_path, preprocess=preprocess)

    for images, how, paths in (
        (both.images[:], clean, both.images.paths),
        (streams.corrupted(both, [0, 1, 2], "fog", 5), corrupted, [path for path, _ in made]),
    ):
        for image, path in zip(images, paths, strict=True):
            steps = []
            if how != "to_tensor":
                kind = InterpolationMode[how.removeprefix("resize256-").upper()]
                steps = [transforms.Resize(256, kind), transforms.CenterCrop(224)]
            with Image.open(path) as opened:
                expected = transforms.Compose([*steps, transforms.PILToTensor()])(opened)
            assert torch.equal(image, expected)
    told = evaluate.unit_rows.protocol_of(both, {})["corruption"]
    assert told == f"the files of imagenet-c, {corrupted}; clean images {clean}"


def test_sets_of_one_size_have_no_preprocessing(root: Path) -> None:
    with pytest.raises(ValueError, match="cifar10 has no option 'preprocess'"):
        data.load("cifar10+cifar10-c", "test", root, preprocess="resize256-bicubic")
