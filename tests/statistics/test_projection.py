"""Principal components against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.decomposition import PCA

from tttlib import statistics


def test_pca_equals_scikit_learn_and_fixes_signs(rng: np.random.Generator) -> None:
    x = rng.normal(size=(60, 5)) @ rng.normal(size=(5, 7)) + 4
    got, want = statistics.pca(x, 3), PCA(3, svd_solver="full").fit(x)
    np.testing.assert_allclose(got.explained, want.explained_variance_ratio_, atol=1e-12)
    np.testing.assert_allclose(np.abs(got.components), np.abs(want.components_), atol=1e-10)
    np.testing.assert_allclose(got.coordinates, (x - got.mean) @ got.components.T, atol=1e-10)
    assert (got.components[np.arange(3), np.abs(got.components).argmax(1)] > 0).all()
    flipped = statistics.pca(x[::-1], 3)
    np.testing.assert_allclose(flipped.coordinates[::-1], got.coordinates, atol=1e-9)


@pytest.mark.parametrize("x", [np.ones((5, 3)), np.zeros((4, 1)), np.full((5, 3), np.inf)])
def test_pca_refuses(x: np.ndarray) -> None:
    with pytest.raises(ValueError):
        statistics.pca(x, 2)
