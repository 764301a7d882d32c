"""What methods declare is so."""

from __future__ import annotations

from typing import Any

import pytest
import small_networks as small
from test_methods import NETWORKS, constants, create
from torch import nn

from tttlib import adapt

WITHOUT: dict[str, Any] = {  # what a method needs -> a network without it
    "BatchNorm": small.rotation_net,
    "last linear layer": lambda: nn.Sequential(
        nn.Conv2d(3, 5, 1), nn.BatchNorm2d(5), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    ),
    "self-supervision": small.wide_resnet,
}


@pytest.mark.parametrize("name", adapt.NAMES)
def test_what_is_trained_and_needed(name: str) -> None:
    method = adapt.METHODS[name]
    assert bool(create(name).trained) == bool(method.trains)
    assert ("source images" not in method.needs) or "source" in constants(name)
    for need in set(method.needs) & set(WITHOUT):
        with pytest.raises(ValueError, match=name if need != "self-supervision" else "needs a"):
            create(name, WITHOUT[need]())
    if "BatchNorm" not in method.needs and name not in (*NETWORKS, "ecotta"):
        net = WITHOUT["BatchNorm"]()
        assert create(name, net)(small.images()).shape == (6, 5)  # ecotta's blocks aside
