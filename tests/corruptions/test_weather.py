"""Frost's photographs, fog's plasma, snow's flakes."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import torch

from tttlib.corruptions import corrupt, weather
from tttlib.corruptions.fields import CounterFields


def test_missing_photographs(monkeypatch: pytest.MonkeyPatch) -> None:
    weather._read_frost.cache_clear()
    weather._photographs.cache_clear()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match=r"not installed; pip install 'tttlib\[frost\]'"):
        corrupt(torch.zeros(1, 3, 32, 32), "frost", 1)


@pytest.mark.parametrize(("scale", "sizes"), [
    (1, [(600, 900), (315, 560), (315, 560), (350, 527), (495, 660)]),
    (0.3, [(180, 270), (94, 168), (94, 168), (105, 158), (148, 198)]),
    (0.2, [(120, 180), (63, 112), (63, 112), (70, 105), (99, 132)]),
])  # fmt: skip
def test_photographs(scale: float, sizes: list[tuple[int, int]]) -> None:
    stack, found = weather._photographs(scale, 32, 32)
    assert found.tolist() == [list(size) for size in sizes]
    assert stack.shape == (5, 3, *sizes[0])
    assert torch.equal(stack[1], stack[2])  # two of the five files hold one picture


def test_photograph_shrinks_like_opencv() -> None:
    cv2 = pytest.importorskip("cv2", reason="compares with OpenCV")
    for photograph in weather._read_frost():
        for scale in (0.2, 0.3, 0.45):
            expected = cv2.resize(photograph, (0, 0), fx=scale, fy=scale)
            assert np.array_equal(weather._shrink(photograph, scale), expected)


def test_large_images_see_mirrored_frost() -> None:
    out = corrupt(torch.zeros(2, 3, 640, 360), "frost", 1)
    assert out.shape == (2, 3, 640, 360) and out.amax((1, 2, 3)).min() > 0.1


def test_plasma_fills_the_range_and_repeats_periodically() -> None:
    fields = CounterFields(1, torch.arange(3))
    plasma = weather._plasma(fields, torch.zeros(3), 64, 3.0)
    assert plasma.shape == (3, 64, 64)
    assert torch.equal(plasma.amin((1, 2)), torch.zeros(3))
    assert torch.equal(plasma.amax((1, 2)), torch.ones(3))
    step = (plasma[:, :, 1:] - plasma[:, :, :-1]).abs().mean()
    seam = (plasma[:, :, 0] - plasma[:, :, -1]).abs().mean()
    assert seam < 2 * step  # smooth across the border too


def test_fog_keeps_white_white() -> None:
    out = corrupt(torch.ones(1, 3, 32, 32), "fog", 5)
    assert out.max() == 1 and out.min() > 0.3


def test_flakes_come_in_pairs_turned_by_half() -> None:
    grey = torch.full((1, 3, 32, 32), 0.1)
    out = corrupt(grey, "snow", 3)
    assert torch.allclose(out, out.flip(2, 3), atol=1e-6)
