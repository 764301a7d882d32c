"""The integer filters of spatter against OpenCV."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tttlib.corruptions import spatter

cv2 = pytest.importorskip("cv2", reason="compares with OpenCV")


@pytest.fixture(params=[(24, 24), (64, 37)])
def levels(request: pytest.FixtureRequest) -> torch.Tensor:
    """int32 [4,H,W]: smooth random layers, cut at a threshold like the drops."""
    random = np.random.RandomState(0)
    layers = random.normal(0.65, 0.3, (4, *request.param))
    smooth = np.stack([cv2.GaussianBlur(layer, (0, 0), 1.5) for layer in layers])
    smooth[smooth < 0.66] = 0
    smooth[3] = 0  # no drop, so no edge
    return torch.from_numpy((smooth * 255).astype(np.uint8)).int()


def as_bytes(x: torch.Tensor) -> list[np.ndarray]:
    return list(x.numpy().astype(np.uint8))


def test_weak_edges_grow_from_strong_ones() -> None:
    candidates = torch.zeros(1, 9, 9, dtype=torch.int16)
    candidates[0, range(1, 8), range(1, 8)] = -1  # a diagonal, and a pixel far from it
    candidates[0, 8, 0] = -1
    seeds = torch.zeros_like(candidates)
    seeds[0, 1, 1] = -1
    found = spatter._grow(seeds, candidates)
    assert found.sum() == -7 and not found[0, 8, 0]


def test_distance_without_edges_is_far() -> None:
    none = torch.zeros(1, 10, 30, dtype=torch.int16)
    assert (spatter._distance(none) == 20 * spatter._UNIT).all()
    one = none.clone()
    one[0, 5, 0] = -1
    assert spatter._distance(one)[0, 5, 12] == 12 * spatter._UNIT


def test_relief(levels: torch.Tensor) -> None:
    kernel = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])
    expected = []
    for layer in as_bytes(levels):
        distance = cv2.distanceTransform(255 - cv2.Canny(layer, 50, 150), cv2.DIST_L2, 5)
        distance = cv2.blur(np.minimum(distance, 20), (3, 3)).astype(np.uint8)
        lit = cv2.filter2D(cv2.equalizeHist(distance), cv2.CV_8U, kernel)
        expected.append(cv2.blur(lit, (3, 3)))
    assert np.array_equal(spatter._relief(levels).numpy(), np.stack(expected))
