"""A dataset whose labels are numbered otherwise than the model's outputs is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tttlib import data, evaluate
from tttlib.data import imagenet
from tttlib.evaluate import labels
from tttlib.models import zoo
from tttlib.models.sources import class_names


def test_another_order_is_refused() -> None:
    images = data.load("scenes", "test", n=2)
    net = zoo.load("wrn-scenes")
    evaluate.describe(net, images)
    other = replace(images, classes=tuple(sorted(images.classes)))
    with pytest.raises(ValueError, match=r"'eight' is label 0 of scenes but output 8 "):
        evaluate.describe(net, other)


def test_another_number_is_refused() -> None:
    with pytest.raises(ValueError, match="mine has 2 classes and the model 3"):
        labels.check(("a", "b", "c"), ("a", "b"), "mine")


@pytest.mark.parametrize("names", [(), ("x", "y", "z"), ("a", "other", "c")])
def test_what_cannot_be_compared_passes(names: tuple[str, ...]) -> None:
    labels.check(("a", "b", "c"), names, "mine")


def test_imagenet_is_numbered_as_its_models_are() -> None:
    labels.check(class_names("imagenet"), tuple(imagenet.class_names()), "imagenet")
