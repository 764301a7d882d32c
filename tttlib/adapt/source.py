"""The source model as it is: the baseline that every error is compared with.

No paper; these are the rows "Source" of the tables. Nothing is trained, and BatchNorm layers use
the source's statistics.
"""

from __future__ import annotations

from torch import Tensor

from tttlib.adapt.common.adapter import Adapter, Config, everywhere


class Source(Adapter, name="source"):
    """Train nothing; there are no diagnostics."""

    presets = everywhere(Config())

    def configure(self) -> list[str]:
        """Leave the network as it is."""
        return []

    def step(self, images: Tensor) -> Tensor:
        """Answer a batch."""
        return self.predict(images)
