"""ETA: the entropy of reliable and new images, the surer the more it counts.

Paper: Niu et al., Efficient Test-Time Model Adaptation without Forgetting, ICML 2022,
arXiv 2204.02610: EATA without its Fisher term, so that no source images are needed. The equations
are in `common/selected_entropy.py`, the constants are EATA's. Known deviations: see there.
"""

from __future__ import annotations

from typing import ClassVar

from tttlib.adapt.common.selected_entropy import SelectedEntropy, SelectedEntropyConfig


class Eta(SelectedEntropy, name="eta"):
    """Diagnostics: loss; reliable and selected, numbers of images."""

    presets: ClassVar = {
        "cifar10-c": SelectedEntropyConfig(),
        "cifar100-c": SelectedEntropyConfig(redundancy=0.1),
        "imagenet-c": SelectedEntropyConfig(optimizer="sgd", lr=2.5e-4, redundancy=0.05),
    }
