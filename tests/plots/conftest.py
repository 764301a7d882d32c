"""Figures are drawn without a screen, in the study's style, and closed again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from matplotlib import pyplot as plt

from tttlib import plots


@pytest.fixture(autouse=True)
def agg() -> Iterator[None]:
    plt.switch_backend("agg")
    plots.use_style()
    yield
    plt.close("all")
