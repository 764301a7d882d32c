from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

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


def test_length_and_size() -> None:
    assert len(make(5)) == 5
    assert make().image_size == 4


@pytest.mark.parametrize(
    "index", [[7, 0, 7], torch.tensor([7, 0, 7]), np.array([7, 0, 7])], ids=["list", "torch", "np"]
)
def test_subset_takes_every_column_in_the_order_asked(index: object) -> None:
    check_rows(make().subset(index), [7, 0, 7])  # type: ignore[arg-type]


def test_subset_by_mask() -> None:
    check_rows(make().subset(make().labels == 1), [1, 4, 7, 10])


def test_subset_without_boxes() -> None:
    assert replace(make(), boxes=None).subset([1]).boxes is None


def test_empty_subset() -> None:
    assert len(make().subset(np.array([], dtype=np.int64))) == 0


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
    "images",
    [torch.zeros(12, 3, 4, 4), torch.zeros(12, 1, 4, 4, dtype=torch.uint8)],
    ids=["float", "grey"],
)
def test_wrong_images(images: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"must be uint8 \[N,3,H,W\]"):
        replace(make(), images=images)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("labels", torch.zeros(11)),
        ("ids", torch.zeros(11)),
        ("boxes", torch.zeros(11, 4)),
        ("clusters", {"clusters": torch.zeros(11)}),
    ],
)
def test_column_of_wrong_length(column: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"'toy' has 12 images but 11 {column}"):
        replace(make(), **{column: value})


def test_check_split() -> None:
    assert check_split("toy", "val", SPLITS) == "valid"
    assert check_split("toy", "test", SPLITS) == "test"
    with pytest.raises(ValueError, match=r"unknown split 'test' of 'toy'; it has train, valid"):
        check_split("toy", "test", ("train", "valid"))
