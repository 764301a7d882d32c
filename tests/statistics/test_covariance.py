"""Streaming covariance against numpy and scikit-learn, whatever the batches and their order."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from tttlib import statistics
from tttlib.statistics import StreamingCovariance


def points(n: int = 60, d: int = 7, far: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(3)
    return rng.normal(size=(n, d)) * np.geomspace(5, 0.1, d) + far


def streamed(x: np.ndarray, sizes: list[int]) -> StreamingCovariance:
    found = StreamingCovariance()
    for part in np.split(x, np.cumsum(sizes)[:-1]):
        found.update(part)
    return found


@pytest.mark.parametrize("sizes", [[60], [1] * 60, [7, 0, 30, 23], [59, 1]])
@pytest.mark.parametrize("far", [0.0, 1e7])
def test_any_batches_give_the_covariance(sizes: list[int], far: float) -> None:
    x = points(far=far)
    got = streamed(x, sizes)
    np.testing.assert_allclose(got.covariance(), np.cov(x.T), rtol=1e-6, atol=1e-9)
    assert got.n == 60
    assert got.mean is not None
    np.testing.assert_allclose(got.mean.numpy(), x.mean(0), rtol=1e-12)


def test_squaring_first_would_lose_what_this_keeps() -> None:
    x = points(far=1e7)
    naive = (x.T @ x - len(x) * np.outer(x.mean(0), x.mean(0))) / (len(x) - 1)
    assert np.abs(naive - np.cov(x.T)).max() > 1e-3  # of a largest entry of 25
    assert np.abs(streamed(x, [30, 30]).covariance() - np.cov(x.T)).max() < 1e-5


@pytest.mark.parametrize("shape", [(60, 7), (5, 12)], ids=["points", "dimensions"])
@pytest.mark.parametrize("far", [0.0, 1e5])
def test_projection_is_that_of_scikit_learn_and_of_pca(shape: tuple[int, int], far: float) -> None:
    x = points(*shape, far=far)
    got = streamed(x, [2, shape[0] - 2]).projection(3, x)
    want, whole = PCA(3, svd_solver="full").fit(x), statistics.pca(x, 3)
    np.testing.assert_allclose(got.explained, want.explained_variance_ratio_, atol=1e-8)
    np.testing.assert_allclose(np.abs(got.components), np.abs(want.components_), atol=1e-6)
    np.testing.assert_allclose(got.coordinates, whole.coordinates, atol=1e-5)
    np.testing.assert_allclose(got.project(x[:2]), whole.coordinates[:2], atol=1e-5)
    assert streamed(x, [shape[0]]).projection(3).coordinates.shape == (0, 3)


def test_order_does_not_matter_and_halves_merge() -> None:
    x = points(far=100.0)
    whole, back = streamed(x, [20, 40]), streamed(x[::-1].copy(), [11, 49])
    np.testing.assert_allclose(back.covariance(), whole.covariance(), rtol=1e-9, atol=1e-12)
    left, right = streamed(x[:13], [13]), streamed(x[13:], [20, 27])
    merged = StreamingCovariance().merge(left).merge(right).merge(StreamingCovariance())
    np.testing.assert_allclose(merged.covariance(), whole.covariance(), rtol=1e-9, atol=1e-12)
    assert (merged.n, left.n, right.n) == (60, 13, 47)


def test_half_precision_and_gradients_are_taken_as_numbers() -> None:
    x = torch.as_tensor(points(), dtype=torch.float16).requires_grad_()
    got = StreamingCovariance().update(x).covariance()
    np.testing.assert_allclose(got, np.cov(x.detach().double().numpy().T), rtol=1e-10)


@pytest.mark.gpu
def test_batches_of_a_device_give_the_same() -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    x = points(far=1e3)
    got = StreamingCovariance().update(torch.as_tensor(x[:30]).cuda()).update(x[30:])
    np.testing.assert_allclose(got.covariance(), np.cov(x.T), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(
    ("seen", "ask", "message"),
    [
        (None, lambda s: s.covariance(), "two points or more, 0 were seen"),
        (None, lambda s: s.projection(1), "seen were 0 of 0"),
        (None, lambda s: s.update([1.0, 2.0, 3.0]), r"must be \[B,D\], got \[3\]"),
        ((5, 3), lambda s: s.update(np.ones((2, 4))), r"must be \[B,3\], got \[2, 4\]"),
        ((5, 3), lambda s: s.update([[1.0, np.nan, 0.0]]), "non-finite"),
        ((5, 3), lambda s: s.projection(1), "all points are equal"),
        ((5, 3), lambda s: s.projection(4), "4 components"),
        ((5, 3), lambda s: s.merge(StreamingCovariance().update(np.ones((5, 2)))), "do not join"),
    ],
)
def test_what_cannot_be_told_is_refused(
    seen: tuple[int, int] | None, ask: Callable[[StreamingCovariance], object], message: str
) -> None:
    covariance = StreamingCovariance()
    if seen:
        covariance.update(np.ones(seen))
    with pytest.raises(ValueError, match=message):
        ask(covariance)
    assert covariance.n == (seen or (0,))[0]
