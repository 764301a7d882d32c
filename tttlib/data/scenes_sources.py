"""What scenes are made of: photographs and handwritten digits inside installed wheels.

Which of them belong to which split is fixed here; splits share neither a photograph nor a digit.
"""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from tttlib.runtime.errors import MissingDataError

# (file, split); the position in this table is the photograph's number in `clusters`.
PHOTOGRAPHS: tuple[tuple[str, str], ...] = (
    ("skimage/data/astronaut.png", "train"),
    ("skimage/data/camera.png", "train"),
    ("sklearn/datasets/images/china.jpg", "train"),
    ("skimage/data/gravel.png", "train"),
    ("skimage/data/hubble_deep_field.jpg", "train"),
    ("skimage/data/ihc.png", "train"),
    ("skimage/data/motorcycle_left.png", "train"),
    ("skimage/data/brick.png", "valid"),
    ("skimage/data/chelsea.png", "valid"),
    ("skimage/data/coins.png", "valid"),
    ("skimage/data/moon.png", "valid"),
    ("skimage/data/coffee.png", "test"),
    ("sklearn/datasets/images/flower.jpg", "test"),
    ("skimage/data/grass.png", "test"),
    ("skimage/data/retina.jpg", "test"),
    ("skimage/data/rocket.jpg", "test"),
)
# Instances follow each other by writer, so a split takes long ranges: most writers stay apart, too.
DIGITS: dict[str, tuple[range, ...]] = {
    "train": (range(0, 900), range(1300, 1600)),
    "valid": (range(900, 1000), range(1700, 1797)),
    "test": (range(1000, 1300), range(1600, 1700)),
}

LEVELS = (40, 60, 90, 135)  # shorter sides of the resized photographs, pixels
MAX_ANGLE = 15  # rotation, whole degrees
UPSAMPLE = 4  # grid points per pixel of the 8x8 digits
_MARGIN = 2  # empty pixels around them
GRID = UPSAMPLE * (8 + 2 * _MARGIN)  # 48
STROKE = 0.46  # share of full ink at the edge of a stroke


class Photographs(NamedTuple):
    """All photographs at all levels, end to end."""

    pixels: np.ndarray  # uint8 [3,P]
    start: np.ndarray  # int64 [photograph, level]
    height: np.ndarray
    width: np.ndarray
    digest: bytes  # sha256 over the files


@cache
def read_photographs() -> Photographs:
    """Read the photographs of the installed wheels. Raises MissingDataError for a missing one."""
    digest, planes, shapes = hashlib.sha256(), [], []
    for file, _ in PHOTOGRAPHS:
        path = _installed(file)
        digest.update(path.read_bytes())
        with Image.open(path) as opened:
            image = opened.convert("RGB")
        for side in LEVELS:
            size = [round(length * (side / min(image.size))) for length in image.size]
            small = np.asarray(image.resize(size, Image.Resampling.BOX))
            planes.append(small.reshape(-1, 3).T)
            shapes.append(small.shape[:2])
    sizes: np.ndarray = np.array(shapes).reshape(len(PHOTOGRAPHS), len(LEVELS), 2)
    height, width = sizes[..., 0], sizes[..., 1]
    count = height * width
    start = count.ravel().cumsum().reshape(count.shape) - count
    pixels = np.ascontiguousarray(np.concatenate(planes, axis=1))
    return Photographs(pixels, start, height, width, digest.digest())


def _installed(file: str) -> Path:
    """Return the path of a file inside an installed package, which is not imported."""
    package, _, inside = file.partition("/")
    spec = find_spec(package)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (Path(folder) / inside).is_file():
            return Path(folder) / inside
    raise MissingDataError(
        f"'scenes' needs {file}, which the wheel of {package} carries but this installation lacks; "
        "reinstall scikit-image and scikit-learn from their wheels"
    )


class Digits(NamedTuple):
    """Upsampled digits, how far they reach when turned, and the instances of each class."""

    templates: np.ndarray  # float32 [1797,48,48] in [0,1]
    low: np.ndarray  # float64 [1797,turn,2]: least x, y of the ink; pixels of the 8x8, 0 = centre
    high: np.ndarray
    order: dict[str, np.ndarray]  # instances of a split, sorted by class
    first: dict[str, np.ndarray]  # int64 [10]: where each class starts in `order`
    number: dict[str, np.ndarray]
    digest: bytes


@cache
def read_digits() -> Digits:
    """Read the 1,797 digits of scikit-learn, enlarged, with the box of their strokes."""
    source = load_digits()
    ink, labels = source.images / 16.0, source.target.astype(np.int64)
    up = _cubic()
    templates = np.einsum("ir,nrc,jc->nij", up, ink, up, optimize=["einsum_path", (0, 1), (0, 1)])
    low, high = _reach(templates >= STROKE)
    order, first, count = {}, {}, {}
    for split, ranges in DIGITS.items():
        rows = np.concatenate([np.array(members) for members in ranges])
        order[split] = rows[np.argsort(labels[rows], kind="stable")]
        count[split] = np.bincount(labels[rows], minlength=10)
        first[split] = np.cumsum(count[split]) - count[split]
    digest = hashlib.sha256(source.images.astype(np.uint8).tobytes() + labels.tobytes()).digest()
    return Digits(
        np.clip(templates, 0, 1).astype(np.float32), low, high, order, first, count, digest
    )


def _cubic() -> np.ndarray:
    """Return Catmull-Rom weights from 8 pixels (zero outside) to the grid, [48,8].

    The weights are multiples of 2^-10, so products and sums of digits are exact in float64.
    """
    at = (np.arange(GRID) + 0.5) / UPSAMPLE - _MARGIN - 0.5
    d = np.abs(at[:, None] - np.arange(8))
    near = 1.5 * d**3 - 2.5 * d**2 + 1
    far = -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))


def _reach(ink: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return least and greatest turned x, y of ink [T,G,G], each [T,turn,2].

    Only the first and last ink of each row can be extreme.
    """
    at = (np.arange(GRID) + 0.5 - GRID / 2) / UPSAMPLE
    left, right = ink.argmax(2), GRID - 1 - ink[:, :, ::-1].argmax(2)  # [T,G]
    x = np.concatenate([at[left], at[right]], 1)  # [T,2G]
    y = np.concatenate([at, at])
    absent = ~np.concatenate([ink.any(2)] * 2, 1)
    low, high = [], []
    for cos, sin in zip(*turns(), strict=True):
        turned = np.stack([cos * x - sin * y, sin * x + cos * y], 2)  # [T,2G,2]
        low.append(np.where(absent[..., None], np.inf, turned).min(1))
        high.append(np.where(absent[..., None], -np.inf, turned).max(1))
    return np.stack(low, 1), np.stack(high, 1)


def turns() -> tuple[np.ndarray, np.ndarray]:
    """Return cosine and sine, [turn] each, of the angles -MAX_ANGLE … MAX_ANGLE."""
    angle = np.deg2rad(np.arange(-MAX_ANGLE, MAX_ANGLE + 1))
    return np.cos(angle), np.sin(angle)
