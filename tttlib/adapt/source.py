"""The source model as it is: the baseline that every error is compared with.

No paper; rows "Source" of the tables. Nothing is trained, statistics are the source's.
"""

from __future__ import annotations

from torch import Tensor

from tttlib.adapt.common.adapter import Adapter, Config


class Source(Adapter, name="source"):
    """Nothing is trained; no diagnostics."""

    presets = dict.fromkeys(("cifar10-c", "cifar100-c", "imagenet-c"), Config())

    def configure(self) -> list[str]:
        return []

    def step(self, images: Tensor) -> Tensor:
        return self.predict(images)
