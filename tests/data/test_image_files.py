"""Encoded files behind the interface of a tensor."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import official
import pytest
import torch
from PIL import Image
from torchvision import transforms

from tttlib.data import DamagedDataError
from tttlib.data.corrupted import LazyImages
from tttlib.data.image_files import FileImages

SIZES = [
    (224, 224), (500, 375), (333, 500), (225, 1000), (256, 256), (101, 99), (256, 259), (259, 256),
]  # fmt: skip


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("files")
    modes = ["RGB", "L", "CMYK"] * 3
    kinds = enumerate(zip(SIZES, modes, strict=False))
    return [official.write_jpeg(folder / f"{i}.JPEG", i, *kind) for i, kind in kinds]


@pytest.fixture(scope="module")
def squares(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("squares")
    return [official.write_jpeg(folder / f"{i}.JPEG", i, (48, 48)) for i in range(6)]


@pytest.mark.parametrize("filter_", ["bilinear", "bicubic"])
def test_resizing_is_torchvisions_of_pil_images(paths: list[Path], filter_: str) -> None:
    resize = transforms.Resize(256, transforms.InterpolationMode(filter_))
    reference = transforms.Compose([resize, transforms.CenterCrop(224)])
    found = FileImages(paths, f"resize256-{filter_}")
    assert found.shape == (len(SIZES), 3, 224, 224)
    for i, path in enumerate(paths):
        expected = np.asarray(reference(Image.open(path).convert("RGB")))
        assert np.array_equal(found[i].permute(1, 2, 0).numpy(), expected), SIZES[i]


def test_to_tensor_keeps_the_pixels(squares: list[Path]) -> None:
    found = FileImages(squares, size=48)
    assert found.dtype == torch.uint8 and found.ndim == 4 and len(found) == 6
    assert found.shape == (6, 3, 48, 48) and found[:].is_contiguous()
    for i, path in enumerate(squares):
        assert np.array_equal(found[i].permute(1, 2, 0).numpy(), official.decoded(path))
        assert torch.equal(found[[i, 0]], torch.stack([found[i], found[0]]))


def test_select_and_corruption_stay_lazy(
    squares: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    files = FileImages(squares, size=48)
    lazy = LazyImages(files, torch.arange(6), "contrast", 3, 0)
    opened: list[Path] = []
    decode = FileImages._decode
    monkeypatch.setattr(
        FileImages, "_decode", lambda self, path: opened.append(path) or decode(self, path)
    )
    chosen = lazy.select(torch.tensor([4, 1]))
    assert opened == [] and chosen.shape == (2, 3, 48, 48)
    made = chosen[:]
    assert sorted(opened) == [squares[1], squares[4]]
    assert torch.equal(made, lazy[torch.tensor([4, 1])])


def test_it_travels_to_workers(squares: list[Path]) -> None:
    files = FileImages(squares, size=48)
    assert torch.equal(pickle.loads(pickle.dumps(files))[:], files[:])


def test_fingerprint_follows_names_and_sizes(squares: list[Path], tmp_path: Path) -> None:
    def of(*paths: Path, key: str = "key") -> str:
        return FileImages(paths, size=48).fingerprint(key)

    assert of(*squares) == of(*squares)
    longer = tmp_path / squares[0].parent.name / squares[0].name
    longer.parent.mkdir()
    longer.write_bytes(squares[0].read_bytes() + b"x")
    others = [of(*squares[::-1]), of(*squares[1:]), of(*squares, key="k"), of(longer, *squares[1:])]
    assert len({of(*squares), *others}) == 5


@pytest.mark.parametrize(
    ("preprocess", "size", "message"),
    [
        ("resize", 224, "unknown preprocess 'resize'; known are to_tensor, resize256-bilinear, re"),
        ("to_tensor", None, "to_tensor needs the images' size in pixels, not None"),
        ("to_tensor", 0, "size in pixels, not 0"),
        ("resize256-bicubic", 64, "resize256-bicubic gives images of 224 pixels, not 64; omit"),
    ],
)
def test_options(squares: list[Path], preprocess: str, size: int | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FileImages(squares, preprocess, size)


def test_damage_names_the_file(squares: list[Path], tmp_path: Path) -> None:
    content = squares[0].read_bytes()
    for length in (1, 10, len(content) // 4, len(content) // 2, len(content) - 60):
        cut = tmp_path / f"{length}.JPEG"
        cut.write_bytes(content[:length])
        with pytest.raises(DamagedDataError, match=f"{cut} cannot be decoded .*; take it again"):
            FileImages([*squares, cut], size=48, remedy="take it again")[:]
    with pytest.raises(DamagedDataError, match=f"{squares[0]} is 48x48, not 47x47"):
        FileImages(squares, size=47)[0]
