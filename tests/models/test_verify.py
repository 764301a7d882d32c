"""Sanity gate: right answers are counted, a mismatch is loud, noise is not."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tttlib import evaluate
from tttlib.data import ImageSet
from tttlib.models import zoo
from tttlib.models.verify import verify
from tttlib.results import Store, summarise


class Reader(nn.Module):
    """Says the class that the first pixel's grey level names."""

    def __init__(self, expected: float | None, classes: int = 4) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(1, 3, 1, 1))
        self.num_classes = classes
        self.card = {"name": "reader", "clean_accuracy": expected, "clean_accuracy_on": "paper"}
        self.modes: list[bool] = []
        self.batches: list[int] = []

    def classify(self, images: Tensor) -> Tensor:
        self.modes.append(self.training)
        self.batches.append(len(images))
        assert images.dtype == torch.float32 and images.min() >= 0 and images.max() <= 1
        level = (images[:, 0, 0, 0] * 255).round().long()
        return nn.functional.one_hot(level, self.num_classes).float()


def images(n: int, right: int, classes: int = 4) -> ImageSet:
    """`n` images of which a `Reader` gets `right`."""
    labels = torch.arange(n) % classes
    pixels = torch.zeros(n, 3, 2, 2, dtype=torch.uint8)
    pixels[:, 0, 0, 0] = (labels + (torch.arange(n) >= right)) % classes
    names = tuple("abcdefgh"[:classes])
    return ImageSet("toy", "test", pixels, labels, names, torch.arange(n), "0")


def test_accuracy_and_wilson_interval() -> None:
    net = Reader(0.7).train()
    found = verify(net, images(600, 450), batch_size=250)
    assert net.batches == [250, 250, 100] and net.modes == [False] * 3 and net.training
    assert found["n"] == 600 and found["accuracy"] == 0.75 and found["dataset"] == "toy test"
    assert found["expected"] == 0.7 and found["expected_on"] == "paper"
    z, p, n = 1.959964, 0.75, 600
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    assert json.loads(json.dumps(found)) == found  # it goes into cards and result rows
    assert found["low"] == pytest.approx(centre - half, abs=1e-6)
    assert found["high"] == pytest.approx(centre + half, abs=1e-6)


@pytest.mark.parametrize(
    ("n", "right", "expected", "ok"),
    [
        (8, 8, None, None),  # nothing to compare with
        (2000, 1800, 0.90, True),
        (2000, 1800, 0.95, False),  # 5 points below
        (2000, 1800, 0.80, False),  # too good is suspicious as well
        (40, 36, 0.95, True),  # 5 points, but 40 images cannot tell
        (40, 10, 0.95, False),  # what a wrong class order does, they can
        (200_000, 180_000, 0.905, True),  # significant, but half a point
        (200_000, 180_000, 0.91, True),  # the tolerance is one point
        (200_000, 180_000, 0.9102, False),
    ],
)
def test_a_point_and_outside_the_interval(
    n: int, right: int, expected: float | None, ok: bool | None, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "tttlib.models.verify"):
        found = verify(Reader(expected), images(n, right), batch_size=n)
    assert found["ok"] is ok
    assert len(caplog.records) == (ok is False)
    if ok is False:
        assert caplog.records[0].levelno == logging.WARNING
        for part in ("reader", f"{right / n:.2%}", f"{expected:.2%} (paper)", f"{n} images"):
            assert part in caplog.text


@pytest.mark.parametrize(("n", "classes"), [(0, 4), (4, 3)])
def test_images_of_something_else(n: int, classes: int) -> None:
    with pytest.raises(ValueError, match=f"4 classes on 'toy' with {classes} classes and {n} im"):
        verify(Reader(0.5), images(n, n, classes))


def saved(folder: Path, **card: Any) -> Path:
    torch.manual_seed(0)
    architecture = {**zoo.PRESETS["wrn-10-1"], "num_classes": 4}
    known = {"architecture": architecture, "mean": [0.0], "std": [1.0], "classes": list("abcd")}
    return zoo.save(zoo.build(architecture), folder / "toy.safetensors", {**known, **card})


def photographs(net: nn.Module, n: int = 100) -> ImageSet:
    """Noise, labelled as `net` classifies it: 100 % are right."""
    pixels = torch.randint(0, 256, (n, 3, 8, 8), generator=torch.manual_seed(1)).byte()
    with torch.no_grad():
        labels = net(pixels.float() / 255).argmax(1)
    return ImageSet("noise", "test", pixels, labels, tuple("abcd"), torch.arange(n), "0")


def test_a_wrong_normalisation_is_found(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    right = saved(tmp_path, clean_accuracy=1.0)
    dataset = photographs(zoo.load(right))
    found = zoo.load(right, verify=dataset).card["verified"]
    assert found["ok"] and found["accuracy"] == 1 and found["n"] == 100 and not caplog.records
    wrong = saved(tmp_path / "wrong", clean_accuracy=1.0, mean=[3.0], std=[0.2])
    assert zoo.load(wrong, verify=dataset).card["verified"]["ok"] is False
    assert "Do not use its numbers" in caplog.text


def test_rows_of_a_mismatch_say_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = saved(tmp_path, clean_accuracy=0.8)
    images = photographs(zoo.load(path))
    trusted, doubted = zoo.load(path), zoo.load(path, verify=images)
    assert "model_mismatch" not in evaluate.describe(trusted, images)

    unit = {"experiment": "toy", **evaluate.describe(doubted, images)}
    store = Store(tmp_path / "results")
    rows = store.run(unit, lambda: evaluate.predict(doubted, images, ["contrast"]))
    text = "clean accuracy 100.00% on noise test, 80.00% expected"
    assert set(rows.model_mismatch) == {text}
    caplog.clear()
    summarise(rows, "domain")
    assert f"do not trust the rows of toy: {text}" in caplog.text
    caplog.clear()
    summarise(rows.assign(model_mismatch=None), "domain")
    assert not caplog.text
