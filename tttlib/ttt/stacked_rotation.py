"""`RotationNet` with a leading replica axis S on the parameters that test-time training moves.

Convolutions of S replicas are one grouped convolution, group norms of S replicas one group norm
with S times the groups. With S = 1 it is the plain network. The frozen class branch stays shared,
so it takes all replicas as one batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tttlib.models.rotation_net import RotationNet
from tttlib.ttt.replicas import Replicas
from tttlib.ttt.sgd import runs_of


class StackedRotationNet(Replicas):
    """S replicas of `model` that differ in the parameters named `trained`.

    The trunk must be trained as a whole; the rotation branch may be frozen. Shapes below: S
    replicas, b copies of each one's image.
    """

    def __init__(self, model: RotationNet, trained: Sequence[str], replicas: int) -> None:
        self.model: RotationNet = model
        self._source = {name: model.get_parameter(name).detach().clone() for name in trained}
        self.parameters = {
            name: value.expand(replicas, *value.shape).clone().requires_grad_()
            for name, value in self._source.items()
        }

    @torch.no_grad()
    def set_weights(
        self, values: dict[str, Tensor] | None = None, where: Tensor | None = None
    ) -> None:
        """Set the parameters to what `copy_of_weights` gave, or to the model's at the start.

        With `where`, bool [S], only those of these replicas.
        """
        chosen = slice(None) if where is None else where
        for name, value in self.parameters.items():
            value[chosen] = (values or self._source)[name].expand_as(value)[chosen]

    def copy_of_weights(self) -> dict[str, Tensor]:
        """Copy the parameters as they are."""
        return {name: value.detach().clone() for name, value in self.parameters.items()}

    def descend(self, losses: Tensor, rates: Sequence[float]) -> None:
        """Update w <- w - lr dL/dw of every replica by its own loss [S] and rate: plain SGD."""
        leaves = list(self.parameters.values())
        gradients = torch.autograd.grad(losses.sum(), leaves)
        with torch.no_grad():
            for at, lr in runs_of(rates):
                torch._foreach_add_([v[at] for v in leaves], [g[at] for g in gradients], alpha=-lr)

    @torch.no_grad()
    def finite(self) -> Tensor:
        """Tell whether all weights of each replica are finite, bool [S]."""
        sums = [value.flatten(1).sum(1) for value in self.parameters.values()]
        return torch.stack(sums).isfinite().all(0)

    def rotation_losses(self, copies: Tensor, turns: Tensor) -> Tensor:
        """Return the mean cross-entropy [S] of the turns [S,b] of copies [S,b,3,H,W]."""
        x = self._shared(copies)
        for k in range(self.model.split + 1, 4):
            x = self._group(x, f"rotation_block{k}")
        x = self._pooled(x, "norm" if self.model.split == 3 else "rotation_norm")  # [S,b,D]
        weight, bias = self._stack("rotation_fc.weight"), self._stack("rotation_fc.bias")
        logits = torch.baddbmm(bias[:, None], x, weight.transpose(1, 2))  # [S,b,4]
        losses = F.cross_entropy(logits.flatten(0, 1), turns.flatten(), reduction="none")
        return losses.view_as(turns).mean(1)

    @torch.no_grad()
    def classify(self, images: Tensor) -> Tensor:
        """Return class logits [S,C] of images [S,3,H,W], one for each replica."""
        x = self._shared(images[:, None])  # [1,S*c,h,w]
        if self.model.split == 3:
            return self.model.fc(self._pooled(x, "norm")[:, 0])
        return self.model.fc(self.model.class_features(x.unflatten(1, (self.replicas, -1))[0]))

    # -- layers on [b,S*c,h,w] -----------------------------------------------------------------

    def _stack(self, name: str) -> Tensor:
        """Return a parameter [S,…]; a frozen one is the same for all."""
        if name in self.parameters:
            return self.parameters[name]
        value = self.model.get_parameter(name).detach()
        return value.expand(self.replicas, *value.shape)

    def _shared(self, images: Tensor) -> Tensor:
        """Pass images [S,b,3,H,W] in [0,1] through the trunk: [b,S*c,h,w]."""
        x = ((images - self.model.mean) / self.model.std).transpose(0, 1).flatten(1, 2)
        x = self._conv(x, "conv1")
        for k in range(1, self.model.split + 1):
            x = self._group(x, f"block{k}")
        return x

    def _group(self, x: Tensor, name: str) -> Tensor:
        for i, block in enumerate(self.model.get_submodule(name).children()):
            at = f"{name}.{i}"
            active = F.relu(self._norm(x, f"{at}.norm1"))
            shortcut = self._conv(active, f"{at}.shortcut") if hasattr(block, "shortcut") else x
            inner = self._conv(active, f"{at}.conv1")
            x = self._conv(F.relu(self._norm(inner, f"{at}.norm2")), f"{at}.conv2") + shortcut
        return x

    def _conv(self, x: Tensor, name: str) -> Tensor:
        layer = self.model.get_submodule(name)
        assert isinstance(layer, nn.Conv2d)
        weight = self._stack(f"{name}.weight").flatten(0, 1)  # [S*out,in,k,k]
        stride, padding = layer.stride, layer.padding
        return F.conv2d(x, weight, None, stride, padding, groups=self.replicas)

    def _norm(self, x: Tensor, name: str) -> Tensor:
        layer = self.model.get_submodule(name)
        assert isinstance(layer, nn.GroupNorm)
        weight, bias = (self._stack(f"{name}.{k}").flatten() for k in ("weight", "bias"))
        return F.group_norm(x, self.replicas * layer.num_groups, weight, bias, layer.eps)

    def _pooled(self, x: Tensor, norm: str) -> Tensor:
        """Normalise and pool [b,S*c,h,w] to [S,b,c]."""
        x = F.relu(self._norm(x, norm)).mean((2, 3))
        return x.unflatten(1, (self.replicas, -1)).transpose(0, 1)
