"""Reference mode against the obvious implementation, one image at a time, also where not square."""

from __future__ import annotations

import numpy as np
import pytest

from tttlib.corruptions import EXTRA_NAMES, NAMES, corrupt

pytest.importorskip("cv2", reason="the obvious implementation needs OpenCV")
from tttlib.data.photographs import pictures
from tttlib.reference import corruptions as plain_corruptions

SQUARE_ONLY = ("zoom_blur", "snow")  # the obvious zoom crops a square
ROUNDING = {  # share of values that may be one level off: order of sums in filters and warps
    "gaussian_blur": 2e-3, "glass_blur": 5e-3, "elastic_transform": 5e-3, "spatter": 1e-3,
    "snow": 1e-3, "zoom_blur": 2e-3, "motion_blur": 1e-3,
}  # fmt: skip


@pytest.mark.parametrize("shape", [(32, 32), (40, 27), (70, 90)])
@pytest.mark.parametrize("name", NAMES + EXTRA_NAMES)
def test_equals_one_image_at_a_time(name: str, shape: tuple[int, int]) -> None:
    if name in SQUARE_ONLY and shape[0] != shape[1]:
        shape = (shape[0], shape[0])
    images = pictures(max(shape), 2)[..., : shape[0], : shape[1]]
    for severity in (1, 3, 5) if shape[0] < 70 else (5,):
        seeds = [np.random.RandomState(5 + i) for i in range(2)]
        found = corrupt(images, name, severity, reference=seeds).movedim(1, -1).numpy()
        expected = [
            plain_corruptions.corrupt(image, name, severity, np.random.RandomState(5 + i))
            for i, image in enumerate(images.movedim(1, -1).contiguous().numpy())
        ]
        difference = np.abs(found.astype(int) - np.stack(expected).astype(int))
        assert difference.max() <= 1, severity
        assert (difference > 0).mean() <= ROUNDING.get(name, 0), severity
