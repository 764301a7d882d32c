"""A small autoencoder on small images, which the tests of evaluation share."""

from __future__ import annotations

from typing import Any

import torch
from tiny_mae import tiny_mae
from torch import Tensor

from tttlib import data
from tttlib.data import ImageSet
from tttlib.models import MaskedAutoencoder


def toy(**sizes: Any) -> MaskedAutoencoder:
    """An untrained network for scenes, with a card."""
    sizes = {"img_size": 32, "patch_size": 8, "num_classes": 10, **sizes}
    net = tiny_mae(dtype=torch.float32, **sizes)
    net.mean.fill_(0.5)
    net.std.fill_(0.05)  # exaggerates the images: an untrained model calls all of them the same
    net.card = {"name": "toy", "weights_sha256": "0123"}
    return net


def scenes(n: int = 6) -> ImageSet:
    return data.load("scenes", "test", n=n)


def state(net: torch.nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in net.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, b[name]) for name, value in a.items())
