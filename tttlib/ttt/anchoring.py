"""Three brakes that keep an online stream near its source, applied after every update.

    pull     theta <- theta + a (theta_0 - theta)                        decay toward the source
    restore  theta_j <- theta_0j where u_j < p, u_j uniform              stochastic restoration
    average  w <- m w + (1 - m) theta, and w predicts in theta's place   mean teacher

theta_0 are the source weights. Restoration and mean teacher: Wang et al., "Continual Test-Time
Domain Adaptation" (CoTTA), CVPR 2022, equations 8 and 2; the pull is the gradient step of an L2
penalty on theta - theta_0 (L2-SP, Li et al., ICML 2018). Test-time training itself has none of
them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tttlib.ttt.stacked import StackedAutoencoder


@dataclass(frozen=True)
class Calm:
    """Strengths of the three brakes; 0 is off.

    Attributes
    ----------
    average
        Decay m in [0,1) of the moving average of the weights that predicts.
    pull
        Share a in [0,1] of the way back to the source after every update.
    restore
        Share p in [0,1] of the weights set back to the source after every update.
    """

    average: float = 0.0
    pull: float = 0.0
    restore: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.average < 1:
            raise ValueError(f"average must be in [0,1), not {self.average}")
        for name, share in {"pull": self.pull, "restore": self.restore}.items():
            if not 0 <= share <= 1:
                raise ValueError(f"{name} must be a share in [0,1], not {share}")


class Brakes:
    """The brakes of `Calm` on a stack: call `after_update`, predict with `predictor`.

    Every replica has a seed of its own, which draws what is restored.
    """

    def __init__(self, net: StackedAutoencoder, calm: Calm, seeds: Sequence[int]) -> None:
        self._net, self._calm = net, calm
        self._source = net.copy_of_weights() if calm.pull or calm.restore else {}
        device = net.model.cls_token.device
        self._random = [torch.Generator(device).manual_seed(seed) for seed in seeds]
        self.predictor = net
        if calm.average:
            self.predictor = StackedAutoencoder(net.model, tuple(net.parameters), net.replicas)

    @torch.no_grad()
    def after_update(self) -> None:
        """Pull, restore, then average."""
        for name, value in self._net.parameters.items():
            if self._calm.pull:
                value.lerp_(self._source[name], self._calm.pull)
            if self._calm.restore:
                one, device = value.shape[1:], value.device
                draw = [torch.rand(one, generator=r, device=device) for r in self._random]
                value.copy_(
                    torch.where(torch.stack(draw) < self._calm.restore, self._source[name], value)
                )
        if self._calm.average:
            for name, value in self.predictor.parameters.items():
                value.lerp_(self._net.parameters[name].detach(), 1 - self._calm.average)

    def narrow(self, replicas: int) -> None:
        """Brake the first replicas alone, after `net` was narrowed."""
        self._source = {name: value[:replicas] for name, value in self._source.items()}
        del self._random[replicas:]
        if self.predictor is not self._net:
            self.predictor.narrow(replicas)

    def copy_of_weights(self, into: list[dict[str, Tensor]]) -> None:
        """Copy the weights that train, and those that predict where they are others."""
        for kept, net in zip(into, self._nets(), strict=True):
            net.copy_of_weights(into=kept)

    def fresh_copy(self) -> list[dict[str, Tensor]]:
        """Return what `copy_of_weights` writes into."""
        return [net.copy_of_weights() for net in self._nets()]

    def set_weights(self, values: list[dict[str, Tensor]]) -> None:
        """Go back to what `copy_of_weights` kept."""
        for kept, net in zip(values, self._nets(), strict=True):
            net.set_weights(kept)

    def reset(self) -> None:
        """Set all weights back to the source."""
        for net in self._nets():
            net.reset()

    def _nets(self) -> list[StackedAutoencoder]:
        return [self._net] if self.predictor is self._net else [self._net, self.predictor]
