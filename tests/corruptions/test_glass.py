"""The parallel form of glass blur against the loop over pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tttlib.corruptions import glass


@pytest.mark.parametrize("reach", [1, 2, 4])
@pytest.mark.parametrize("shape", [(12, 12), (20, 13)])
def test_sources_equal_the_loop(reach: int, shape: tuple[int, int]) -> None:
    height, width = shape
    random = np.random.RandomState(reach)
    inner = (height - 2 * reach, width - 2 * reach)
    draws = random.randint(-reach, reach, (50, *inner, 2))  # rows and columns descending
    expected = []
    for offsets in draws:
        image = np.arange(height * width).reshape(height, width)
        steps = iter(offsets.reshape(-1, 2))
        for h in range(height - reach, reach, -1):
            for w in range(width - reach, reach, -1):
                dx, dy = next(steps)
                image[h, w] = image[h + dy, w + dx]
        expected.append(image.ravel())
    ascending = torch.from_numpy(draws).flip(1, 2)
    found = glass._sources(ascending, height, width, reach)
    assert np.array_equal(found.numpy(), np.stack(expected))


def test_longest_chain_is_followed() -> None:
    """Every pixel copies from its right: all of a row ends at the first pixel never written."""
    offsets = torch.zeros(1, 28, 28, 2, dtype=torch.int64)
    offsets[..., 0] = 1  # not a draw of reach 2 only: the largest one
    found = glass._sources(offsets, 32, 32, 2).view(32, 32)
    assert (found[3, 3:31] == 3 * 32 + 31).all()
