"""The test-time training that belongs to a network."""

from __future__ import annotations

from collections.abc import Callable

from tttlib import ttt
from tttlib.models import MaskedAutoencoder, RotationNet
from tttlib.ttt import rotation

TrainableAtTest = MaskedAutoencoder | RotationNet
"""The networks that have a self-supervised task."""


def engine(model: TrainableAtTest) -> tuple[str, Callable[..., ttt.TTTResult]]:
    """Return the name of the method and its `run`: rotation for a `RotationNet`, else TTT-MAE."""
    if isinstance(model, RotationNet):
        return "TTT-rotation", rotation.run
    return "TTT-MAE", ttt.run
