from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from tttlib.data import MissingDataError, load, scenes
from tttlib.data import scenes_sources as sources
from tttlib.data.imageset import SPLITS, ImageSet

N = 2000


@pytest.fixture(scope="module")
def made() -> dict[str, scenes.Scenes]:
    return {split: scenes.generate(split, np.arange(N)) for split in SPLITS}


def same(a: scenes.Scenes, b: scenes.Scenes) -> bool:
    return all(map(np.array_equal, a, b))


def rows(a: scenes.Scenes, index: np.ndarray) -> scenes.Scenes:
    return scenes.Scenes(*(column[index] for column in a))


def test_record() -> None:
    data = scenes.load("val", n=300, seed=3)
    assert isinstance(data, ImageSet) and data.boxes is not None
    assert (data.name, data.split, len(data), data.image_size) == ("scenes", "valid", 300, 32)
    assert data.images.dtype == torch.uint8 and data.labels.dtype == torch.int64
    assert data.boxes.dtype == torch.float32 and data.boxes.shape == (300, 4)
    assert data.classes == scenes.CLASSES and len(data.classes) == 10
    assert torch.equal(data.ids, torch.arange(300))
    raw = scenes.generate("valid", np.arange(300), seed=3)
    assert np.array_equal(data.images.numpy(), raw.images)
    assert {name: column.tolist() for name, column in data.clusters.items()} == {
        "photograph": raw.photograph.tolist(), "tile": raw.tile.tolist(),
        "digit": raw.digit.tolist(),
    }  # fmt: skip
    assert data.factors() == data.factors("scenes") == ("tile", "digit")
    assert data.factors("photographs") == ("photograph", "digit")
    with pytest.raises(ValueError, match=r"no population 'images' of 'scenes'; known are scenes"):
        data.factors("images")
    raw = scenes.generate("test", np.arange(3000))
    assert len({*zip(raw.tile, raw.photograph, strict=True)}) == len(set(raw.tile)) > 150
    assert scenes.DEFAULT_N == {"train": 50_000, "valid": 5_000, "test": 10_000}
    assert scenes.generate("test", np.array([], np.int64)).images.shape == (0, 3, 32, 32)


@pytest.mark.parametrize("split", SPLITS)
def test_an_image_depends_on_its_index_alone(made: dict[str, scenes.Scenes], split: str) -> None:
    index = np.random.default_rng(0).integers(0, N, 400)  # any order, with repeats
    assert same(scenes.generate(split, index), rows(made[split], index))
    assert same(scenes.generate(split, np.arange(7)), rows(made[split], np.arange(7)))
    far = scenes.generate(split, np.array([3, 10**12]))
    assert same(rows(far, np.array([0])), rows(made[split], np.array([3])))


@pytest.mark.parametrize("chunk", [1, 13, 512])
def test_chunks_do_not_matter(
    made: dict[str, scenes.Scenes], chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scenes, "_CHUNK", chunk)
    assert same(scenes.generate("test", np.arange(60)), rows(made["test"], np.arange(60)))


def test_seeds_and_splits_are_different_draws(made: dict[str, scenes.Scenes]) -> None:
    other = scenes.generate("test", np.arange(N), seed=1)
    repeated = (made["test"].images == other.images).all((1, 2, 3))
    assert not repeated.any()
    assert not same(made["test"], made["valid"])
    keys = (("test", 0), ("test", 1), ("train", 0))
    u = [scenes._uniforms(split, np.arange(N), seed)[:, 0] for split, seed in keys]
    assert np.abs(np.corrcoef(u) - np.eye(3)).max() < 0.1
    assert same(scenes.generate("test", [5], seed=-1), scenes.generate("test", [5], seed=2**64 - 1))


def test_uniforms_are_uniform_and_independent() -> None:
    u = scenes._uniforms("train", np.arange(20_000), 0)
    assert u.min() >= 0 and u.max() < 1
    assert np.allclose(u.mean(0), 0.5, atol=0.01) and np.allclose(u.var(0), 1 / 12, atol=0.003)
    between_draws = np.corrcoef(u.T) - np.eye(u.shape[1])
    assert np.abs(between_draws).max() < 0.035
    between_neighbours = [np.corrcoef(c[1:], c[:-1])[0, 1] for c in u.T]
    assert np.abs(between_neighbours).max() < 0.035


def test_splitmix_reference() -> None:
    """The generator's first output from state 0 is mix(gamma)."""
    gamma = np.array([0x9E3779B97F4A7C15], np.uint64)
    assert scenes._mix(gamma)[0] == 0xE220A8397B1DCDAF


@pytest.mark.parametrize("split", SPLITS)
def test_boxes_hold_the_ink_exactly(made: dict[str, scenes.Scenes], split: str) -> None:
    for mask, box in zip(made[split].masks, made[split].boxes, strict=True):
        y, x = np.nonzero(mask)
        assert box.tolist() == [x.min(), y.min(), x.max() + 1, y.max() + 1]


def test_only_ink_changes_the_background(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the digit the pixels outside the mask are the same, most of those inside are not."""
    with_digit = scenes.generate("test", np.arange(200))
    monkeypatch.setattr(scenes, "OPACITY", (0.0, 0.0))
    without = scenes.generate("test", np.arange(200))
    differs = (with_digit.images != without.images).any(1)
    assert not (differs & ~with_digit.masks).any()
    assert differs[with_digit.masks].mean() > 0.97


def test_boxes_are_spread(made: dict[str, scenes.Scenes]) -> None:
    """Over areas, and over every part of the image."""
    boxes = np.concatenate([made[split].boxes for split in SPLITS])
    area = (boxes[:, 2:] - boxes[:, :2]).prod(1) / scenes.SIZE**2
    found = np.quantile(area, [0, 0.05, 0.25, 0.5, 0.75, 0.95, 1])
    assert (found > [0.03, 0.03, 0.1, 0.2, 0.34, 0.5, 0.6]).all()
    assert (found < [0.06, 0.08, 0.16, 0.3, 0.45, 0.75, 0.75]).all()
    assert (boxes[:, :2].min(0) <= 1).all() and (boxes[:, 2:].max(0) >= scenes.SIZE - 1).all()
    assert made["train"].masks.any(0).mean() > 0.9


def test_the_calm_composition_is_larger_digits_on_calmer_pictures() -> None:
    """The same digits over the same photographs; what differs is how much of each is seen."""
    busy, calm = (scenes.generate("test", np.arange(400), 0, name) for name in scenes.COMPOSITIONS)
    for a, b in ((busy.labels, calm.labels), (busy.digit, calm.digit), (busy.tile, calm.tile)):
        assert np.array_equal(a, b)
    area = (calm.boxes[:, 2:] - calm.boxes[:, :2]).prod(1) / scenes.SIZE**2
    assert area.min() > 0.2 and area.max() < 0.75
    assert (calm.masks.sum((1, 2)) > busy.masks.sum((1, 2))).mean() > 0.95
    texture = [
        np.median([grey[~ink].std() for grey, ink in zip(m.images.mean(1), m.masks, strict=True)])
        for m in (busy, calm)
    ]
    assert texture[1] < 0.6 * texture[0]
    images = load("scenes-calm", "test", n=400)
    assert np.array_equal(images.images.numpy(), calm.images) and images.name == "scenes-calm"
    assert images.factors() == ("tile", "digit")
    assert images.fingerprint != scenes.load("test", n=400).fingerprint


def test_digits_turn_both_ways_and_stay_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reach table agrees with rendering: the tight box is the wanted one to about a pixel."""
    digits = sources.read_digits()
    u = np.random.default_rng(0).random((500, 6))
    digit = np.random.default_rng(1).integers(0, 1797, 500)
    monkeypatch.setattr(scenes, "INK", 0.5)
    masks = scenes._coverage(digits, digit, scenes.COMPOSITIONS["scenes"].area, u) > 0
    turn = (u[:, 0] * (2 * scenes.MAX_ANGLE + 1)).astype(int)
    extent = digits.high[digit, turn] - digits.low[digit, turn]
    boxes = scenes._boxes(masks)
    size = boxes[:, 2:] - boxes[:, :2]
    stretch = 1 + scenes.STRETCH * (2 * u[:, 1] - 1)
    wanted = extent * np.stack([stretch, 1 / stretch], 1)
    scale = np.sqrt(size.prod(1) / wanted.prod(1))
    assert np.abs(size - wanted * scale[:, None]).max() < 2
    assert np.abs(masks.reshape(500, -1).mean(1)).min() > 0.005


def test_splits_share_no_photograph_and_no_digit(made: dict[str, scenes.Scenes]) -> None:
    by_split = {s: {i for i, (_, t) in enumerate(scenes.PHOTOGRAPHS) if t == s} for s in SPLITS}
    assert len(by_split["test"]) >= 4
    assert len({file for file, _ in scenes.PHOTOGRAPHS}) == len(scenes.PHOTOGRAPHS)
    instances = {s: [i for r in sources.DIGITS[s] for i in r] for s in SPLITS}
    assert sorted(i for members in instances.values() for i in members) == list(range(1797))
    for split in SPLITS:
        assert set(made[split].photograph) == by_split[split]
        assert set(made[split].digit) <= set(instances[split])
        assert len(set(made[split].digit)) > 0.7 * min(len(instances[split]), N)


def test_photographs_are_different_pictures() -> None:
    """No two are the same scene: correlation of their smallest, squared versions stays low."""
    images = [Image.open(sources._installed(file)) for file, _ in scenes.PHOTOGRAPHS]
    small = [np.asarray(image.convert("L").resize((16, 16)), float).ravel() for image in images]
    assert (np.corrcoef(small) - np.eye(len(small))).max() < 0.8


def test_labels_are_those_of_the_digits(made: dict[str, scenes.Scenes]) -> None:
    target = load_digits().target
    for split in SPLITS:
        assert np.array_equal(target[made[split].digit], made[split].labels)
        share = np.bincount(made[split].labels, minlength=10) / N
        assert share.min() > 0.07 and share.max() < 0.13


def test_templates_are_the_digits() -> None:
    """Weights sum to one inside, and the means of the upsampled blocks follow the pixels."""
    up = sources._cubic()
    inside = slice(4 * (sources._MARGIN + 2), -4 * (sources._MARGIN + 2))
    assert np.array_equal(up.sum(1)[inside], np.ones(up[inside].shape[0]))
    core = sources.read_digits().templates[:, 8:-8, 8:-8].reshape(1797, 8, 4, 8, 4).mean((2, 4))
    pixels = load_digits().images / 16
    assert np.corrcoef(core.ravel(), pixels.ravel())[0, 1] > 0.99


def test_digits_stand_out(made: dict[str, scenes.Scenes]) -> None:
    """Ink differs from the picture around it in its box, in every split."""
    for split in SPLITS:
        grey = made[split].images.mean(1)
        ink = made[split].masks
        inside = (grey * ink).sum((1, 2)) / ink.sum((1, 2))
        outside = (grey * ~ink).sum((1, 2)) / (~ink).sum((1, 2))
        assert np.median(np.abs(inside - outside)) > 50


def test_fingerprint_tells_what_was_made(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = (("test", 4, 0), ("test", 4, 1), ("test", 5, 0), ("valid", 4, 0))
    prints = {scenes.load(split, n=n, seed=seed).fingerprint for split, n, seed in kinds}
    assert len(prints) == 4
    assert scenes.load("test", n=4, root=Path("ignored")).fingerprint in prints
    monkeypatch.setattr(scenes, "VERSION", -1)
    assert scenes.load("test", n=4).fingerprint not in prints


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: scenes.load("dev"), "unknown split 'dev' of 'scenes'; it has train, valid"),
        (lambda: scenes.generate("dev", np.arange(3)), "unknown split 'dev'"),
        (lambda: scenes.generate("test", np.arange(3), 0, "busy"), "unknown composition 'busy'"),
        (lambda: scenes.load("test", n=0), "n=0 images.*at least 1"),
        (lambda: scenes.load("test", n=-5), "n=-5 images.*at least 1"),
        (lambda: scenes.generate("test", np.array([3, -1])), "index -1"),
        (lambda: sources._installed("skimage/data/no.png"), r"skimage/data/no\.png.*reinstall"),
        (lambda: sources._installed("no_such_package/a.png"), "no_such_package"),
    ],
)
def test_bad_input(call: Callable[[], object], said: str) -> None:
    with pytest.raises((ValueError, MissingDataError), match=said):
        call()


def test_fast_enough() -> None:
    """50,000 images take about 4 s of one thread; a tenth of them must stay far below that."""
    scenes.generate("train", np.arange(1))  # the sources are read once
    start = time.process_time()
    scenes.generate("train", np.arange(5_000))
    assert time.process_time() - start < 3


# generate(split, [0, 12345], seed=7): labels, photographs, digits, boxes, images[:, :, 4::8, 4::8]
GOLDEN: dict[str, tuple[list[int], list[int], list[int], list[list[int]], str]] = {
    "train": (
        [5, 3], [0, 2], [419, 838], [[13, 7, 27, 30], [1, 5, 18, 31]],
        "c747ac904d78c2b36193d7e3d1e1d1d58623722b264da842293e86625463ba527c1f832c"
        "2149cf38212f8b523c4ee63accc4a9b9d2336e4db739824c563a8c70ccc685bec7135f43"
        "b5146a3f4715666dd0cd6bc7c433543eae36583746394e3b",
    ),
    "valid": (
        [2, 2], [10, 8], [956, 927], [[13, 11, 26, 28], [6, 2, 26, 31]],
        "7472727571706d71706ee371706f6e6d6a68686b686764676665f067666665648e8c8c8f"
        "8b89858a8987e78a89888786b90e71a1c2b00dbcb50dc6ae9e0b0cca74114a5f7a721077"
        "6d10816a5e0f0f8042032a354a4403463d02513a3a01024b",
    ),
    "test": (
        [3, 0], [11, 13], [1090, 1153], [[2, 2, 26, 28], [15, 7, 30, 24]],
        "c02ccbc0302fd5bcb37a24bc7d7197885c0a6c51100c7c3c3c2b073b2b2a2f334b1e6a3e"
        "2b1f88292d221d292322242875753c837182715e637fa79c68725c6899994fac94ab947c"
        "82a6c9bf889679899e9e52b198b0988086abb1ad8c9b7d8d",
    ),
}  # fmt: skip


@pytest.mark.parametrize("split", SPLITS)
def test_golden(split: str) -> None:
    """The stored images come out again; two grey levels are left to decoders of JPEG and resizing.

    When this fails on purpose, raise VERSION: weights and results name the old pictures.
    """
    made = scenes.generate(split, np.array([0, 12345]), seed=7)
    columns = (made.labels, made.photograph, made.digit, made.boxes)
    *expected, pixels = GOLDEN[split]
    assert [column.tolist() for column in columns] == expected
    stored = np.frombuffer(bytes.fromhex(pixels), np.uint8).reshape(2, 3, 4, 4)
    now = made.images[:, :, 4::8, 4::8]
    assert np.abs(now.astype(int) - stored.astype(int)).max() <= 2
