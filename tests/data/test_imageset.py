from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tttlib.data.corrupted import LazyImages
from tttlib.data.imageset import SPLITS, ImageSet, check_split


def make(n: int = 12) -> ImageSet:
    pixels = torch.arange(n, dtype=torch.uint8)[:, None, None, None]
    return ImageSet(
        name="toy",
        split="test",
        images=pixels.expand(n, 3, 4, 4),
        labels=torch.arange(n) % 3,
        classes=("a", "b", "c"),
        ids=torch.arange(n) + 100,
        fingerprint="f",
        boxes=torch.arange(4 * n, dtype=torch.float32).reshape(n, 4),
        clusters={"photograph": torch.arange(n) // 4},
    )


def check_rows(made: ImageSet, rows: list[int]) -> None:
    whole = make()
    assert made.images[:, 0, 0, 0].tolist() == rows
    assert made.ids.tolist() == [100 + r for r in rows]
    assert made.labels.tolist() == [r % 3 for r in rows]
    assert made.clusters["photograph"].tolist() == [r // 4 for r in rows]
    assert made.boxes is not None and whole.boxes is not None
    assert torch.equal(made.boxes, whole.boxes[rows])
    assert (made.classes, made.fingerprint) == (whole.classes, whole.fingerprint)


@pytest.mark.parametrize("kind", [list, torch.tensor, np.array])
def test_subset_takes_every_column_in_the_order_asked(kind: Callable[[list[int]], Any]) -> None:
    check_rows(make().subset(kind([7, 0, 7])), [7, 0, 7])
    check_rows(make().subset(kind([r % 3 == 1 for r in range(12)])), [1, 4, 7, 10])
    assert len(make().subset(kind([]))) == 0 and make().image_size == 4
    assert replace(make(), boxes=None).subset(kind([1])).boxes is None


def test_sample_is_seeded_and_disjoint_after_skip() -> None:
    a, again, other = make().sample(5, 1), make().sample(5, 1), make().sample(5, 2)
    rest = make().sample(7, 1, skip=5)
    assert torch.equal(a.ids, again.ids)
    assert not torch.equal(a.ids, other.ids)
    assert sorted(a.ids.tolist() + rest.ids.tolist()) == make().ids.tolist()


@pytest.mark.parametrize(("n", "skip"), [(0, 0), (13, 0), (5, 8), (3, -1)])
def test_sample_of_too_many(n: int, skip: int) -> None:
    with pytest.raises(ValueError, match=f"cannot draw {n} images after skipping {skip}.*has 12"):
        make().sample(n, skip=skip)


def test_of_classes_keeps_labels() -> None:
    made = make().of_classes([0, 2])
    assert set(made.labels.tolist()) == {0, 2}
    assert len(made) == 8 and made.classes == ("a", "b", "c")


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("images", torch.zeros(12, 3, 4, 4), r"'toy' must be uint8 \[N,3,H,W\], got torch.float"),
        ("images", torch.zeros(12, 1, 4, 4, dtype=torch.uint8), r"must be uint8 \[N,3,H,W\]"),
        ("labels", torch.zeros(11), "'toy' has 12 images but 11 labels"),
        ("ids", torch.zeros(11), "'toy' has 12 images but 11 ids"),
        ("boxes", torch.zeros(11, 4), "'toy' has 12 images but 11 boxes"),
        ("clusters", {"photograph": torch.zeros(11)}, "'toy' has 12 images but 11 photograph"),
    ],
)
def test_columns_that_do_not_fit(column: str, value: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        replace(make(), **{column: value})


def test_check_split() -> None:
    assert check_split("toy", "val", SPLITS) == "valid"
    assert check_split("toy", "test", SPLITS) == "test"
    with pytest.raises(ValueError, match=r"unknown split 'test' of 'toy'; it has train, valid"):
        check_split("toy", "test", ("train", "valid"))


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor, list])
def test_columns_of_any_kind(kind: Callable[[np.ndarray], Any]) -> None:
    labels, ids = kind(np.array([2, 0, 1], np.int32)), kind(np.arange(3))
    pixels: Any = np.zeros((3, 3, 4, 4), np.uint8)
    images = ImageSet("toy", "test", pixels, labels, ("a", "b", "c"), ids, "f")
    assert images.labels.dtype == images.ids.dtype == torch.int64
    assert images.subset([0, 2]).labels.tolist() == [2, 1]


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ([1, 2, 3], "run from 1 to 3, but its 3 classes are numbered 0..2"),
        ([0, -1, 2], "run from -1 to 2"),
        ([0.0, 1.0, 2.0], r"must be whole numbers \[N\], got torch.float"),
        ([[0], [1], [2]], r"must be whole numbers \[N\], got torch.int64 \(3, 1\)"),
    ],
)
def test_labels_are_indices_into_the_classes(labels: list[int], said: str) -> None:
    with pytest.raises(ValueError, match=f"labels of 'toy' {said}"):
        replace(make(3), labels=torch.tensor(labels))


POSITIONS = {
    "numpy number": np.int64(7),
    "numpy unsigned": np.uint8(7),
    "0-d array": np.array(7),
    "0-d tensor": torch.tensor(7),
    "negative": np.int16(-5),
    "list": [7, 0],
    "numpy list": [np.int64(7), np.int64(0)],
    "array": np.array([7, 0], np.int32),
    "tensor": torch.tensor([7, 0], dtype=torch.int32),
    "truth values": np.arange(12) % 7 == 0,
    "torch truth values": torch.arange(12) % 7 == 0,
    "slice": slice(7, 0, None),
    "slice of numpy numbers": slice(np.int64(2), np.int64(5)),
    "range": range(3, 5),
    "empty": [],
    "empty array": np.array([]),
}


@pytest.mark.parametrize("name", POSITIONS)
def test_lazy_images_are_indexed_like_a_tensor(name: str) -> None:
    index, pixels = POSITIONS[name], make().images.repeat(1, 1, 2, 2)
    like = index if isinstance(index, slice) else torch.as_tensor(np.asarray(index))
    like = like.long() if isinstance(like, Tensor) and like.dtype != torch.bool else like
    lazy = LazyImages(pixels, make().ids, "pixelate", 1, 0)
    expected = lazy[torch.arange(12)][like]
    assert torch.equal(lazy[index], expected)
    if not isinstance(index, slice):
        assert make().subset(index).labels.tolist() == make().labels[like].reshape(-1).tolist()


@pytest.mark.parametrize(
    "index", [1.0, [0.5], np.array([1.0]), 12, [12], -13, np.ones(11, bool), "1"]
)
def test_what_is_no_position(index: object) -> None:
    lazy = LazyImages(make().images.repeat(1, 1, 2, 2), make().ids, "pixelate", 1, 0)
    for use in (lazy.__getitem__, make().subset):
        with pytest.raises((IndexError, TypeError)):
            use(index)  # type: ignore[operator]
