"""BN-1: BatchNorm layers normalise with the statistics of the batch instead of the source's.

Papers: Nado et al., 2020, arXiv 2006.10963; Schneider et al., Improving robustness against common
corruptions by covariate shift adaptation, NeurIPS 2020, arXiv 2006.16971, section 3:
    mean = N/(N+n) mean_source + n/(N+n) mean_batch, the variance likewise, n images in the batch.
N = 0 is the BN-1 of the tables. Nothing is kept from batch to batch, so the order is irrelevant.

Known deviations: none in the numbers. The released codes also update running statistics, which
nothing reads. They write the mixture with a fixed share a of the batch; N = n (1-a)/a is the same.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from tttlib.adapt.common.adapter import Adapter, Config, everywhere
from tttlib.adapt.common.batch_norm import use_batch_statistics
from tttlib.adapt.common.config import NotNegative


@dataclass(frozen=True, kw_only=True)
class BN1Config(Config):
    """Constants.

    Attributes
    ----------
    prior
        N, the number of images that the source's statistics count for.
    """

    prior: NotNegative = 0.0


class BN1(Adapter, name="bn1"):
    """Train nothing; there are no diagnostics."""

    needs = ("BatchNorm", "several images")
    presets = everywhere(BN1Config())

    def configure(self) -> list[str]:
        """Replace the statistics of the BatchNorm layers."""
        if not use_batch_statistics(self.model, prior=self.config.prior):
            raise ValueError(
                "bn1 replaces the statistics of BatchNorm layers, and this model has none; "
                "source, tent, law and palm work without"
            )
        return []

    def step(self, images: Tensor) -> Tensor:
        """Answer a batch."""
        return self.predict(images)
