"""Weights of S replicas of one network that learn apart from each other."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Replicas:
    """The trained parameters of S replicas of `model`.

    Attributes
    ----------
    model
        The network, whose other parameters all replicas share.
    parameters
        Leaf tensors [S,…] of the trained parameters, by name.
    """

    model: nn.Module
    parameters: dict[str, Tensor]

    @property
    def replicas(self) -> int:
        """The number S of replicas."""
        return len(next(iter(self.parameters.values())))

    @torch.no_grad()
    def write_to_model(self, replica: int = 0) -> None:
        """Write the weights of a replica to the model."""
        for name, value in self.parameters.items():
            self.model.get_parameter(name).copy_(value[replica])

    def narrow(self, replicas: int) -> None:
        """Keep the first replicas alone, in the memory where they are."""
        for name, value in self.parameters.items():
            self.parameters[name] = value.detach()[:replicas].requires_grad_()
