"""BatchNorm layers that mix the batch's statistics with those they hold: RoTTA's and MEMO's.

Both are kinds of `use_batch_statistics`, hold mean M and variance V (the source's at the start) in
the buffers of the layer, and take the batch's share a from the layer's `momentum`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from tttlib.adapt.common.batch_norm import BatchStatistics, use_batch_statistics


class Robust(BatchStatistics):
    """Yuan, Xie and Li, CVPR 2023, arXiv 2303.13899: statistics that move, with gradients.

    In training mode M' = (1-a) M + a mean(x) and V' = (1-a) V + a var(x) (biased) normalise, with
    gradients to mean(x) and var(x), and become M and V; in eval mode M and V normalise.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise [B,C,...], and do what else the layer does."""
        if self.running_mean is None or self.running_var is None or not self.training:
            return super(BatchStatistics, self).forward(x)
        assert self.momentum is not None
        variance, mean = torch.var_mean(x, [0, *range(2, x.ndim)], correction=0)  # [C]
        mean = self.running_mean + self.momentum * (mean - self.running_mean)  # M'
        variance = self.running_var + self.momentum * (variance - self.running_var)  # V'
        self.running_mean.copy_(mean.detach())
        self.running_var.copy_(variance.detach())
        shape = [1, -1, *[1] * (x.ndim - 2)]
        x = (x - mean.view(shape)) * torch.rsqrt(variance + self.eps).view(shape)
        # What is left, scale, shift and perhaps an activation, is the layer's own: with statistics
        # by which it does not change x
        try:
            self.training = False
            with self._statistics(torch.zeros_like(mean), torch.full_like(variance, 1 - self.eps)):
                return super(BatchStatistics, self).forward(x)
        finally:
            self.training = True


class Mixed(BatchStatistics):
    """Zhang, Levine and Finn, NeurIPS 2022, arXiv 2110.09506: (1-a) source + a batch.

    The batch's variance is the unbiased one, and no gradient goes to either statistic. A batch with
    one value a channel has no variance: the source's statistics normalise it.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise [B,C,...], and do what else the layer does."""
        if self.running_mean is None or self.running_var is None or x[:, 0].numel() == 1:
            return super().forward(x)
        assert self.momentum is not None
        variance, mean = torch.var_mean(x.detach(), [0, *range(2, x.ndim)], correction=1)  # [C]
        with self._statistics(
            self.running_mean + self.momentum * (mean - self.running_mean),
            self.running_var + self.momentum * (variance - self.running_var),
        ):
            return super(BatchStatistics, self).forward(x)


def use_mixed_statistics(model: nn.Module, share: float, kind: type[BatchStatistics]) -> None:
    """Make the BatchNorm layers of a model `Robust` or `Mixed`, with the batch's share a."""
    use_batch_statistics(model, kind=kind)
    for layer in model.modules():
        if isinstance(layer, kind):
            assert isinstance(layer, _BatchNorm)
            layer.momentum = share
