"""Mean and covariance of points that arrive in batches, and their principal components."""

from __future__ import annotations

from typing import Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from tttlib.statistics.projection import Projection, oriented


class StreamingCovariance:
    """Mean and scatter of points seen batch after batch, in float64.

    Each batch is centred by its own mean before it is squared and joined with what was there, so
    points far from the origin cost no digits. Batches may lie on any device; sums are made there
    and kept on the device of the first one (the CPU where a device has no float64).

    Attributes
    ----------
    n
        Number of points seen.
    mean
        Shape [D].
    scatter
        Shape [D,D], the sum of (x - mean)(x - mean)^T.

    References
    ----------
    Chan, Golub, LeVeque, "Updating formulae and a pairwise algorithm for computing sample
    variances", COMPSTAT 1982, equations 2.1 (several dimensions: products in place of squares).
    """

    def __init__(self) -> None:
        self.n = 0
        self.mean: Tensor | None = None
        self.scatter: Tensor | None = None

    def update(self, batch: Tensor | ArrayLike) -> Self:
        """Add points [B,D]; another shape or D, and non-finite values, raise a ValueError."""
        x = batch.detach() if isinstance(batch, Tensor) else torch.as_tensor(np.asarray(batch))
        x = (x.cpu() if x.device.type == "mps" else x).to(torch.float64)
        width = x.shape[1] if self.mean is None and x.ndim == 2 else self._width
        if x.ndim != 2 or x.shape[1] != width:
            raise ValueError(f"points must be [B,{width or 'D'}], got {list(x.shape)}")
        if len(x):
            mean = x.mean(0)
            if not torch.isfinite(mean).all():
                raise ValueError("the points hold non-finite values")
            centred = x - mean
            self._join(len(x), mean, centred.T @ centred)
        return self

    def merge(self, other: StreamingCovariance) -> Self:
        """Add all points that `other` has seen; another D raises a ValueError."""
        if other.mean is not None and other.scatter is not None:
            if self.mean is not None and other._width != self._width:
                raise ValueError(f"points [*,{self._width}] do not join [*,{other._width}]")
            self._join(other.n, other.mean, other.scatter)
        return self

    def covariance(self) -> NDArray[np.float64]:
        """Return the unbiased covariance [D,D]; fewer than two points raise a ValueError."""
        if self.n < 2 or self.scatter is None:
            raise ValueError(f"a covariance needs two points or more, {self.n} were seen")
        return self.scatter.cpu().numpy() / (self.n - 1)

    def projection(self, k: int = 2, points: ArrayLike | None = None) -> Projection:
        """Return the first `k` principal components, and the coordinates of `points` in them.

        Equal to `pca`, but from the eigenvectors of the covariance: components that carry less
        than about 1e-16 of the largest variance cannot be told apart. `points` has shape [N,D];
        without it the coordinates are empty, [0,k], and `Projection.project` gives them later.
        Raises a ValueError unless 0 < k <= min(n, D), and when all points are equal.
        """
        if self.mean is None or self.scatter is None or not 0 < k <= min(self.n, self._width):
            raise ValueError(
                f"{k} components need {k} points of {k} dimensions or more; seen were "
                f"{self.n} of {self._width}"
            )
        mean, scatter = self.mean.cpu().numpy(), self.scatter.cpu().numpy()
        total = float(np.trace(scatter))
        if total <= self.n * (np.finfo(np.float64).eps * max(1.0, float(np.abs(mean).max()))) ** 2:
            raise ValueError("all points are equal: there is no direction to project on")
        values, vectors = np.linalg.eigh(scatter)  # ascending
        components = oriented(vectors[:, ::-1][:, :k].T)
        explained = values[::-1][:k].clip(0) / total
        empty = Projection(np.empty((0, k)), components, explained, mean)
        return empty if points is None else empty._replace(coordinates=empty.project(points))

    @property
    def _width(self) -> int:
        return 0 if self.mean is None else len(self.mean)

    def _join(self, n: int, mean: Tensor, scatter: Tensor) -> None:
        if self.mean is None or self.scatter is None:
            self.n, self.mean, self.scatter = n, mean.clone(), scatter.clone()
            return
        mean, scatter = mean.to(self.mean.device), scatter.to(self.mean.device)
        shift, total = mean - self.mean, self.n + n
        self.scatter = self.scatter + scatter + (self.n * n / total) * torch.outer(shift, shift)
        self.mean = self.mean + shift * (n / total)
        self.n = total
