"""What BatchNorm layers do at test time.

Four ways occur: the source's statistics (nothing to do), those of the batch, a mixture of both, and
those of the batch for each of several views of every image. `use_batch_statistics` makes the layers
of a network do the latter three. A layer stays the object that it is, and its own `forward` works
with other statistics: what it does beyond normalising (the activation of timm's
BatchNormAct2d, hooks, the synchronisation of SyncBatchNorm) stays, and so do all names.

Papers: Nado et al., 2020, arXiv 2006.10963, and Schneider et al., NeurIPS 2020, arXiv 2006.16971
(section 3: mixing with a prior of N source images). In the released codes of TENT, CoTTA, LAW and
PALM the layers forget the source's statistics; here they stay in the buffers, never change, and
normalise a batch that has no statistics of its own: a single value per channel.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

_PLAIN = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
_SHAPES = ((3, 3), (), (5,), (2, 2, 2))  # behind [B,C], of 2d, 1d and 3d layers


class BatchStatistics(_BatchNorm):
    """Normalise with mean and biased variance of the batch; mixed into the class of a layer.

    Attributes
    ----------
    prior
        N of Schneider et al.: the statistics are (N source + n batch) / (N + n), n images.
    views
        V: an image's V views lie side by side in the batch [B V,...], and the v-th views of all
        images share statistics.
    """

    prior: float
    views: int

    def forward(self, x: Tensor) -> Tensor:
        """Normalise [B,C,...], and do what else the layer does."""
        has_source = self.running_mean is not None
        if has_source and x.shape[0] * x[0, 0].numel() == self.views:  # one value a channel
            return super().forward(x)
        if self.prior and has_source:
            return self._mixed(x)
        with self._statistics(None, None):
            if self.views == 1:
                return super().forward(x)
            y = torch.empty_like(x)
            for v in range(self.views):
                y[v :: self.views] = super().forward(x[v :: self.views])
            return y

    def _mixed(self, x: Tensor) -> Tensor:
        if self.views > 1:
            raise ValueError("a prior and several views cannot be had together")
        variance, mean = torch.var_mean(x, [0, *range(2, x.ndim)], correction=0)  # [C]
        share = self.prior / (self.prior + len(x))
        with self._statistics(
            share * self.running_mean + (1 - share) * mean,  # type: ignore[operator]
            share * self.running_var + (1 - share) * variance,  # type: ignore[operator]
        ):
            return super().forward(x)

    @contextmanager
    def _statistics(self, mean: Tensor | None, variance: Tensor | None) -> Iterator[None]:
        """Let the layer have these statistics while inside; None: those of its batch."""
        own = self.running_mean, self.running_var, self.track_running_stats
        try:
            self.running_mean, self.running_var = mean, variance
            self.track_running_stats = mean is not None
            yield
        finally:
            self.running_mean, self.running_var, self.track_running_stats = own


def use_batch_statistics(
    model: nn.Module, *, prior: float = 0.0, kind: type[BatchStatistics] = BatchStatistics
) -> int:
    """Let the BatchNorm layers of `model` use the statistics of the batch (in place).

    Layers that do not use them even in training mode (frozen ones) stay as they are.

    Parameters
    ----------
    model
        The network.
    prior
        See `BatchStatistics`.
    kind
        What is mixed into the classes of the layers: another way to use these statistics.

    Returns
    -------
    int
        How many layers there are; 0 if they have been changed before.

    Raises
    ------
    ValueError
        For a subclass of BatchNorm that would not do the same as in training mode, by its name.
    """
    count = 0
    for name, layer in model.named_modules():
        if not isinstance(layer, _BatchNorm) or isinstance(layer, BatchStatistics):
            continue
        plain = type(layer) in _PLAIN and not {"forward", "train"} & set(vars(layer))
        if plain or _uses_batch_statistics(layer, name):
            _convert(layer, prior, kind)
            count += 1
    return count


def _convert(layer: _BatchNorm, prior: float = 0.0, kind: Any = BatchStatistics) -> None:
    converted: Any = layer
    layer_class: Any = type(layer)
    converted.__class__ = _extended(kind, layer_class)
    converted.prior, converted.views = prior, 1


@functools.cache
def _extended(kind: type[Any], layer_class: type[Any]) -> type[Any]:
    return type(layer_class.__name__, (kind, layer_class), {})


@torch.no_grad()
def _uses_batch_statistics(layer: _BatchNorm, name: str) -> bool:
    """Try a layer of unknown class: whether training mode normalises with the batch's statistics.

    Raises ValueError if it does, but not in a way that `BatchStatistics` can follow.
    """
    probe = copy.deepcopy(layer).float().eval()
    probe._forward_hooks.clear()
    probe._forward_pre_hooks.clear()
    # Weights are often 0 at the end of a residual block
    values = {"weight": 1.0, "bias": 0.0, "running_mean": 0.5, "running_var": 2.0}
    for part, value in values.items():
        if (tensor := getattr(probe, part)) is not None:
            tensor.fill_(value)
    converted, training = copy.deepcopy(probe), copy.deepcopy(probe)
    _convert(converted)
    training.train()
    for child in training.children():
        child.eval()  # no dropout
    like = next(iter(probe.state_dict().values()), torch.empty(()))
    close = functools.partial(torch.allclose, rtol=1e-3, atol=1e-4)
    for shape in () if "forward" in vars(layer) else _SHAPES:
        random = torch.Generator().manual_seed(0)
        x = torch.randn(4, layer.num_features, *shape, generator=random).to(like.device)
        try:
            expected = training(x)
            if probe.running_mean is not None and close(probe(x), expected):
                return False
            if close(converted(x), expected):
                return True
        except Exception:  # of the layer's own making, or because of the shape
            continue
    raise ValueError(
        f"{name or 'the layer'} is a {type(layer).__name__}, a BatchNorm layer of its own kind, "
        f"which cannot be given the statistics of the batch; use nn.BatchNorm2d, or source"
    )


@contextmanager
def views(model: nn.Module, number: int) -> Iterator[None]:
    """Take batches [B V,3,H,W] with view v of image b at b V + v while inside.

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
