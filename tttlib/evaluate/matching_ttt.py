"""The test-time training that belongs to a network."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import nn

from tttlib import ttt
from tttlib.models import MaskedAutoencoder, RotationNet
from tttlib.ttt import rotation

TrainableAtTest = MaskedAutoencoder | RotationNet
"""The networks that have a self-supervised task."""


Run = Callable[..., ttt.TTTResult]
RunStreams = Callable[..., Iterator[tuple[int, ttt.TTTResult]]]


def engine(model: TrainableAtTest) -> tuple[str, Run, RunStreams]:
    """Return the method, its `run` and `run_streams`: rotation for a `RotationNet`, else TTT-MAE.

    Raises
    ------
    ValueError
        If the network has no self-supervised task.
    """
    if isinstance(model, RotationNet):
        return "TTT-rotation", rotation.run, rotation.run_streams
    check_autoencoder(model)
    return "TTT-MAE", ttt.run, ttt.run_streams


def check_autoencoder(model: nn.Module) -> None:
    """Refuse networks that are no masked autoencoder.

    Raises
    ------
    ValueError
        If the network is one of these; the message names its class.
    """
    if not isinstance(model, MaskedAutoencoder):
        raise ValueError(
            f"this needs a MaskedAutoencoder (models.zoo), not a {type(model).__name__}; of a "
            "compiled or wrapped one, pass the module inside"
        )
