"""Which test-time training goes with a network."""

from __future__ import annotations

from collections.abc import Callable

from tttlib import ttt
from tttlib.models import MaskedAutoencoder, RotationNet
from tttlib.ttt import rotation

TrainableAtTest = MaskedAutoencoder | RotationNet
"""The networks with a self-supervised task."""


def engine(model: TrainableAtTest) -> tuple[str, Callable[..., ttt.TTTResult]]:
    """Name of the method and its `run`: reconstruction, or rotation for a `RotationNet`."""
    if isinstance(model, RotationNet):
        return "TTT-rotation", rotation.run
    return "TTT-MAE", ttt.run
