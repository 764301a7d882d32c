"""Kernels, taps and zoom factors of the blurs."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from tttlib.corruptions import blur, corrupt
from tttlib.corruptions.fields import CounterFields


@pytest.mark.parametrize(("radius", "pixels"), [(2.5, 21), (3, 29), (4, 49), (6, 113), (8, 197)])
def test_disk_pixels(radius: float, pixels: int) -> None:
    assert (blur._disk(radius, 0.01) > 0).sum() == pixels


def test_disk_sums() -> None:
    """Mirroring at the border of the array makes two kernels sum to more than one."""
    for size, levels in blur.DEFOCUS_BLUR.items():
        for radius, sigma in levels:
            kernel = blur._disk(radius, sigma).double()
            expected = {8: 1.01298, 10: 1.01079}.get(radius, 1.0)
            assert kernel.sum().item() == pytest.approx(expected, abs=1e-5), (size, radius)
            assert torch.equal(kernel, kernel.flip(0))


@pytest.mark.parametrize(
    ("size", "severity", "expected"),
    [
        (32, 1, {0: (32, 0, 32, 0), 3: (32, 0, 33, 0), 6: (31, 0, 33, 0)}),
        (32, 5, {22: (27, 2, 33, 0), 25: (26, 3, 33, 0)}),
        (64, 5, {1: (64, 0, 65, 0), 20: (54, 5, 65, 0), 25: (52, 6, 65, 0)}),
        (224, 4, {12: (181, 21, 224, 0)}),
        (224, 5, {10: (173, 25, 225, 0), 9: (177, 23, 225, 0)}),
    ],
)
def test_zoom_geometry(size: int, severity: int, expected: dict) -> None:
    step, count = blur.ZOOM_BLUR[size][severity - 1]
    boxes = blur._zooms(size, step, count)
    assert len(boxes) == count
    assert {i: boxes[i] for i in expected} == expected


def test_zoom_equals_interpolate() -> None:
    x = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    boxes = blur._zooms(64, 0.01, 26)
    total = x.clone()
    for crop, top, out, trim in boxes:
        part = x[:, :, top : top + crop, top : top + crop]
        big = F.interpolate(part, size=(out, out), mode="bilinear", align_corners=True)
        total += big[:, :, trim : trim + 64, trim : trim + 64]
    found = blur.zoom_blur(x, CounterFields(0, torch.arange(2)), 0.01, 26)
    assert (found - total / 27).abs().max() < 1e-6


def test_between_severities_blurs_mix() -> None:
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for name in ("defocus_blur", "zoom_blur"):
        low, middle, high = (corrupt(x, name, severity) for severity in (2, 2.25, 3))
        assert (middle - (0.75 * low + 0.25 * high)).abs().max() < 1e-6
