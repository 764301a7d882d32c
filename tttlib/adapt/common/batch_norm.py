"""What BatchNorm layers do at test time.

Four ways occur: the source's statistics (nothing to do), those of the batch, a mixture of both, and
those of the batch for each of several views of every image. `use_batch_statistics` replaces the
layers by ones that do the latter three; parameters and buffers keep their names and values.

Papers: Nado et al., 2020, arXiv 2006.10963, and Schneider et al., NeurIPS 2020, arXiv 2006.16971
(section 3: mixing with a prior of N source images). In the released codes of TENT, CoTTA, LAW and
PALM the layers forget the source's statistics; here they stay in the buffers, never change, and
normalise a batch that has no statistics of its own: a single value per channel.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm


class BatchStatistics(_BatchNorm):
    """A BatchNorm layer that normalises with mean and biased variance of the batch it is given.

    prior  N of Schneider et al.: the statistics are (N source + n batch) / (N + n), n images
    views  V: an image's V views lie side by side in the batch [B V,...], and the v-th views of all
           images share statistics
    """

    weight: nn.Parameter | None  # type: ignore[assignment]
    bias: nn.Parameter | None  # type: ignore[assignment]

    def __init__(self, layer: _BatchNorm, prior: float = 0.0) -> None:
        nn.Module.__init__(self)
        self.num_features, self.eps, self.momentum = layer.num_features, layer.eps, layer.momentum
        self.affine = layer.affine
        self.track_running_stats = layer.track_running_stats
        self.prior, self.views = prior, 1
        self.weight, self.bias = layer.weight, layer.bias
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            self.register_buffer(name, getattr(layer, name))
        self.train(layer.training)

    def forward(self, x: Tensor) -> Tensor:
        source = self.running_mean is not None
        if source and x.shape[0] * x[0, 0].numel() == self.views:  # one value a channel
            return self._fixed(x, self.running_mean, self.running_var)
        if self.prior and source:
            return self._mixed(x)
        v, shape = self.views, x.shape
        weight, bias = self.weight, self.bias
        if v > 1:
            x = x.reshape(shape[0] // v, v * shape[1], *shape[2:])  # [B,V C,...]
            weight = weight.repeat(v) if weight is not None else None  # type: ignore[assignment]
            bias = bias.repeat(v) if bias is not None else None  # type: ignore[assignment]
        return F.batch_norm(x, None, None, weight, bias, True, 0.0, self.eps).reshape(shape)

    def _mixed(self, x: Tensor) -> Tensor:
        if self.views > 1:
            raise ValueError("a prior and several views cannot be had together")
        variance, mean = torch.var_mean(x, [0, *range(2, x.ndim)], correction=0)  # [C]
        share = self.prior / (self.prior + len(x))
        return self._fixed(
            x,
            share * self.running_mean + (1 - share) * mean,  # type: ignore[operator]
            share * self.running_var + (1 - share) * variance,  # type: ignore[operator]
        )

    def _fixed(self, x: Tensor, mean: Tensor | None, variance: Tensor | None) -> Tensor:
        """Normalised with given statistics; unlike F.batch_norm, gradients reach them."""
        assert mean is not None and variance is not None
        wide = [1, -1] + [1] * (x.ndim - 2)
        x = (x - mean.view(wide)) * torch.rsqrt(variance + self.eps).view(wide)
        if self.weight is not None:
            x = x * self.weight.view(wide)
        return x if self.bias is None else x + self.bias.view(wide)

    def extra_repr(self) -> str:
        return f"{self.num_features}, eps={self.eps}, prior={self.prior}, views={self.views}"


def use_batch_statistics(model: nn.Module, *, prior: float = 0.0) -> int:
    """Replace the BatchNorm layers inside `model` (in place); how many there are.

    Names, parameters and buffers stay, so the state dict still fits the architecture.
    """
    replaced: dict[_BatchNorm, BatchStatistics] = {}
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, _BatchNorm) and not isinstance(child, BatchStatistics):
                if child not in replaced:
                    replaced[child] = BatchStatistics(child, prior)
                setattr(parent, name, replaced[child])
    return len(replaced)


@contextmanager
def views(model: nn.Module, number: int) -> Iterator[None]:
    """While inside, batches are [B V,3,H,W] with view v of image b at b V + v.

    BatchNorm layers (of `use_batch_statistics`) normalise each view's B images by themselves, as V
    calls with B images would.
    """
    layers = [m for m in model.modules() if isinstance(m, BatchStatistics)]
    before = [layer.views for layer in layers]
    try:
        for layer in layers:
            layer.views = number
        yield
    finally:
        for layer, old in zip(layers, before, strict=True):
            layer.views = old
