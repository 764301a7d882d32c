"""BatchNorm layers in training mode: batch statistics, which move the running ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from tttlib.adapt.common.optimizers import finite


@contextmanager
def moving_statistics(*networks: nn.Module) -> Iterator[None]:
    """Let the BatchNorm layers of networks in eval mode be in training mode while inside.

    Afterwards their running statistics are what they were before if not all of them are finite,
    without waiting for the device. A layer that sees one value per channel, see
    `spare_single_values`, has its running statistics instead.
    """
    layers = [layer for network in networks for layer in batch_norms(network)]
    pairs = [(layer.running_mean, layer.running_var) for layer in layers]
    buffers = [buffer for pair in pairs for buffer in pair if buffer is not None]
    before = [buffer.clone() for buffer in buffers]
    try:
        for layer in layers:
            layer.train()
        yield
    finally:
        for network in networks:
            network.eval()
    if buffers:
        ok = finite(buffers)
        kept = [torch.where(ok, now, old) for now, old in zip(buffers, before, strict=True)]
        with torch.no_grad():
            torch._foreach_copy_(buffers, kept)


def batch_norms(network: nn.Module) -> list[_BatchNorm]:
    """Return the BatchNorm layers of a network."""
    return [module for module in network.modules() if isinstance(module, _BatchNorm)]


def spare_single_values(network: nn.Module) -> None:
    """Let layers that see one value per channel, which has no variance, go to eval mode for it."""

    def spare(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if layer.training and inputs[0].numel() == inputs[0].shape[1]:
            layer.eval()

    for layer in batch_norms(network):
        layer.register_forward_pre_hook(spare)
