"""Principal components."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray


class Projection(NamedTuple):
    """Principal components: coordinates [N,k], components [k,D], explained [k], mean [D].

    `explained` is each component's share of the total variance, in [0, 1].
    """

    coordinates: NDArray[np.float64]
    components: NDArray[np.float64]
    explained: NDArray[np.float64]
    mean: NDArray[np.float64]

    def project(self, x: ArrayLike) -> NDArray[np.float64]:
        """Return coordinates [M,k] of other points [M,D] in these components."""
        return (np.asarray(x, dtype=np.float64) - self.mean) @ self.components.T


def oriented(components: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return components [k,D] with the sign that makes the largest entry of each positive."""
    largest = np.abs(components).argmax(1)
    return components * np.sign(components[np.arange(len(components)), largest])[:, None]


def pca(x: ArrayLike, k: int = 2) -> Projection:
    """Return the first `k` principal components of the points `x` [N,D].

    Computed as the singular value decomposition of the centred points (Pearson 1901). Signs are
    fixed: the largest entry of each component is positive. Fit once for each figure. Raises a
    ValueError unless 0 < k <= min(N, D), for non-finite values, and when all points are equal.
    """
    points = np.asarray(x, dtype=np.float64)
    if points.ndim != 2 or not 0 < k <= min(points.shape):
        raise ValueError(f"{k} components need points [N,D], N and D >= {k}; got {points.shape}")
    if not np.isfinite(points).all():
        raise ValueError("the points to project hold non-finite values")
    mean = points.mean(0)
    _, singular, components = np.linalg.svd(points - mean, full_matrices=False)
    if singular[0] <= np.finfo(np.float64).eps * max(1.0, float(np.abs(mean).max())):
        raise ValueError("all points are equal: there is no direction to project on")
    components = oriented(components[:k])  # [k,D]
    explained = singular**2 / (singular**2).sum()
    return Projection((points - mean) @ components.T, components, explained[:k], mean)
