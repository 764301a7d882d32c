"""Fixtures of the statistics tests."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """A generator seeded by the module's SEED."""
    return np.random.default_rng(getattr(request.module, "SEED", 3))
