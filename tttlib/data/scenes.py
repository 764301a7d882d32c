"""Scenes: handwritten digits over photographs, made from what installed wheels carry.

The sources are those of scikit-learn and scikit-image; nothing is downloaded.

Digits are the 1,797 real 8x8 instances of scikit-learn's `load_digits`; backgrounds are crops of
the photographs in `PHOTOGRAPHS`. Splits share neither a digit instance nor a photograph, so the
digits and the backgrounds of valid and test are unseen in training. (The right image of
scikit-image's stereo pair shows the scene of the left one again and is left out.)

Image `i` of a split is a pure function of (split, i, seed): its random numbers are hashes of
(seed, split, i, draw), so neither `n` nor the order nor the chunking changes it. Pixels come from
elementwise float32 arithmetic and integer sums in numpy, which no thread count reorders.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from tttlib.data.imageset import SPLITS, ImageSet, check_split
from tttlib.data.scenes_sources import (
    GRID,
    LEVELS,
    MAX_ANGLE,
    PHOTOGRAPHS,
    STROKE,
    UPSAMPLE,
    Digits,
    Photographs,
    read_digits,
    read_photographs,
    turns,
)

VERSION = 1  # raise it whenever any pixel, label or box changes
SIZE = 32  # height = width of an image, pixels
TILE = 16  # height = width of the parts of a photograph, pixels
CLASSES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
DEFAULT_N = {"train": 50_000, "valid": 5_000, "test": 10_000}

STRETCH = 0.12  # width and height of a digit change by at most this factor (opposite signs)
CONTRAST = (65.0, 150.0)  # |luminance of the digit - luminance behind it|, grey levels
CHROMA = 60.0  # largest departure of the digit's colour from grey, grey levels
OPACITY = (0.85, 1.0)
SHADE = 0.25  # largest relative change of the digit's brightness across half an image
TINT = (0.75, 1.25)  # factor on each channel of the background
INK = 0.25  # pixels with less coverage than this show no ink

_CHUNK = 256  # images at a time
_LUMA = (77, 150, 29)  # Rec. 601 weights / 256
_DRAWS = 24


class Composition(NamedTuple):
    """How much of an image belongs to the digit, and how much to the photograph.

    Attributes
    ----------
    area
        Area of the digit's box / area of the image, least and most, before rounding to pixels.
    fade
        Contrast of the background relative to the photograph's, least and most.
    """

    area: tuple[float, float]
    fade: tuple[float, float]


COMPOSITIONS = {
    "scenes": Composition(area=(0.045, 0.60), fade=(0.4, 1.0)),
    "scenes-calm": Composition(area=(0.25, 0.60), fade=(0.1, 0.4)),  # hidden patches need the digit
}


class Scenes(NamedTuple):
    """The images that `generate` makes, as NumPy arrays with one row per index.

    Attributes
    ----------
    images
        uint8 [N,3,32,32].
    labels
        int64 [N].
    boxes
        float32 [N,4]: xmin, ymin, xmax, ymax; maxima exclusive.
    masks
        bool [N,32,32], True where there is ink.
    photograph
        int64 [N], row of `PHOTOGRAPHS`.
    tile
        int64 [N], part of the photograph that the centre of the background lies in, see `_tile`.
    digit
        int64 [N], instance number in `load_digits`.
    """

    images: np.ndarray
    labels: np.ndarray
    boxes: np.ndarray
    masks: np.ndarray
    photograph: np.ndarray
    tile: np.ndarray
    digit: np.ndarray


def load(
    split: str,
    root: Path | None = None,
    *,
    n: int | None = None,
    seed: int = 0,
    composition: str = "scenes",
) -> ImageSet:
    """Make images 0 … n-1 of a split; nothing is read or stored, so `root` is ignored.

    Parameters
    ----------
    split
        "train", "valid" or "test".
    root
        Ignored.
    n
        Number of images; None: `DEFAULT_N`.
    seed
        Decides every image.
    composition
        One of `COMPOSITIONS`, the name of the dataset.

    Returns
    -------
    ImageSet
        Its ids are the indices (each split counts from 0), its clusters "photograph", "tile" and
        "digit". Intervals speak of new scenes over these photographs (population "scenes": tiles
        and digits vary), or of new photographs ("photographs": a split has only four to seven).

    Raises
    ------
    ValueError
        For an unknown split or n < 1.
    """
    split = check_split(composition, split, SPLITS)
    n = DEFAULT_N[split] if n is None else n
    if n < 1:
        raise ValueError(f"n={n} images of {composition!r} asked for; n must be at least 1")
    made = generate(split, np.arange(n), seed, composition)
    images, labels, boxes, _, photograph, tile, digit = map(torch.from_numpy, made)
    return ImageSet(
        name=composition,
        split=split,
        images=images,
        labels=labels,
        classes=CLASSES,
        ids=torch.arange(n),
        fingerprint=_fingerprint(split, n, seed, composition),
        boxes=boxes,
        clusters={"photograph": photograph, "tile": tile, "digit": digit},
        populations={"scenes": ("tile", "digit"), "photographs": ("photograph", "digit")},
    )


def generate(split: str, index: np.ndarray, seed: int = 0, composition: str = "scenes") -> Scenes:
    """Make the images at `index` (int64 [N], any order, 0 or more) of an endless split.

    Raises ValueError for an unknown split or composition or a negative index.
    """
    split = check_split(composition, split, SPLITS)
    if composition not in COMPOSITIONS:
        known = ", ".join(COMPOSITIONS)
        raise ValueError(f"unknown composition {composition!r} of scenes; known are {known}")
    composed = COMPOSITIONS[composition]
    index = np.asarray(index, dtype=np.int64).reshape(-1)
    if len(index) and index.min() < 0:
        raise ValueError(f"index {index.min()} of {composition!r}; indices count from 0")
    starts = range(0, max(1, len(index)), _CHUNK)
    parts = [_chunk(split, composed, _uniforms(split, index[i : i + _CHUNK], seed)) for i in starts]
    return Scenes(*map(np.concatenate, zip(*parts, strict=True)))


def _chunk(split: str, composed: Composition, u: np.ndarray) -> Scenes:
    """Make one chunk of images from its uniform numbers [B,_DRAWS]."""
    photographs, digits = read_photographs(), read_digits()

    # which digit
    labels = (u[:, 0] * 10).astype(np.int64)
    first, count = digits.first[split][labels], digits.number[split][labels]
    digit = digits.order[split][first + (u[:, 1] * count).astype(np.int64)]
    alpha = _coverage(digits, digit, composed.area, u[:, 2:8])  # float32 [B,32,32]
    masks = alpha > 0

    # which background
    rows = np.array([i for i, (_, s) in enumerate(PHOTOGRAPHS) if s == split])
    photograph = rows[(u[:, 8] * len(rows)).astype(np.int64)]
    level, top, left = _place(photographs, photograph, u[:, 9:12])
    images = _background(photographs, photograph, level, top, left, composed.fade, u[:, 12:17])

    colour = _colour(images, masks, u[:, 17:21])  # float32 [B,3]
    shade = _shade(u[:, 21:23])  # float32 [B,32,32]
    alpha *= _between(OPACITY, u[:, 23])[:, None, None]
    for c in range(3):
        ink = colour[:, c, None, None] * shade
        images[:, c] += alpha * (ink - images[:, c])
    np.clip(images + np.float32(0.5), 0, 255, out=images)
    return Scenes(images.astype(np.uint8), labels, _boxes(masks), masks, photograph,
                  _tile(photograph, level, top, left), digit)  # fmt: skip


def _coverage(
    digits: Digits, digit: np.ndarray, areas: tuple[float, float], u: np.ndarray
) -> np.ndarray:
    """Return how much of each pixel the digit covers, float32 [B,32,32]; 0 below INK.

    Template coordinates are turned by the angle, then stretched to the wanted box, then moved to
    a place where the whole box is inside the image.
    """
    turn = (u[:, 0] * (2 * MAX_ANGLE + 1)).astype(np.int64)
    low, high = digits.low[digit, turn], digits.high[digit, turn]  # [B,2]: x, y
    extent = high - low
    stretch = 1 + STRETCH * (2 * u[:, 1] - 1)
    shape = extent * np.stack([stretch, 1 / stretch], 1)  # box of the digit at scale 1
    area = shape.prod(1) / SIZE**2
    largest = ((SIZE - 2) / shape.max(1)) ** 2 * area  # ratio at which it fills the image
    small, large = np.sqrt(areas[0]), np.sqrt(np.minimum(areas[1], largest))
    scale = (small + (large - small) * u[:, 2]) / np.sqrt(area)
    box = shape * scale[:, None]
    centre = 1 + box / 2 + (SIZE - 2 - box) * u[:, 3:5]

    pixel = np.arange(SIZE, dtype=np.float32) + np.float32(0.5)
    middle = (low + high) / 2
    step = (extent / box).astype(np.float32)  # template pixels per image pixel
    start = (middle - centre * extent / box).astype(np.float32)
    x = pixel[None, :] * step[:, :1] + start[:, :1]  # [B,32], turned template coordinates
    y = pixel[None, :] * step[:, 1:] + start[:, 1:]
    cos, sin = (f[turn, None].astype(np.float32) for f in turns())
    shift = np.float32(GRID / 2 - 0.5)
    k = np.float32(UPSAMPLE)
    column = (x * (k * cos))[:, None, :] + (y * (k * sin) + shift)[:, :, None]  # [B,32,32]
    row = (x * (-k * sin))[:, None, :] + (y * (k * cos) + shift)[:, :, None]
    value = _bilinear(digits.templates, digit, row, column)

    # the edge of a stroke is about one image pixel wide, whatever the size
    edge = (1.3 / np.sqrt(step.prod(1))).astype(np.float32)[:, None, None]
    alpha = np.clip((value - np.float32(STROKE)) * edge + np.float32(0.5), 0, 1)
    alpha[alpha < np.float32(INK)] = 0
    return alpha


def _bilinear(
    templates: np.ndarray, which: np.ndarray, row: np.ndarray, column: np.ndarray
) -> np.ndarray:
    """Interpolate templates [T,G,G] at fractional positions [B,H,W]; the border is repeated."""
    top = np.float32(GRID - 1.001)
    np.clip(row, 0, top, out=row)
    np.clip(column, 0, top, out=column)
    r, c = row.astype(np.int32), column.astype(np.int32)
    row -= r
    column -= c
    base = which.astype(np.int32)[:, None, None] * GRID**2 + r * GRID + c
    flat = templates.reshape(-1)
    upper = flat.take(base)
    upper += column * (flat.take(base + 1) - upper)
    base += GRID
    lower = flat.take(base)
    lower += column * (flat.take(base + 1) - lower)
    upper += row * (lower - upper)
    return upper


def _place(
    photographs: Photographs, which: np.ndarray, u: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Choose where a background is cut: level of size, top and left, each int64 [B]."""
    level = (u[:, 0] * len(LEVELS)).astype(np.int64)
    height, width = photographs.height[which, level], photographs.width[which, level]
    top = (u[:, 1] * (height - SIZE + 1)).astype(np.int64)
    left = (u[:, 2] * (width - SIZE + 1)).astype(np.int64)
    return level, top, left


def _tile(which: np.ndarray, level: np.ndarray, top: np.ndarray, left: np.ndarray) -> np.ndarray:
    """Return the part of the photograph, int64 [B]: squares of `TILE` pixels, at each level.

    An image belongs to the square that holds its centre, so images of one part share most of their
    background.
    """
    row, column = ((start + SIZE // 2) // TILE for start in (top, left))
    return ((which * len(LEVELS) + level) * 100 + row) * 100 + column


def _background(
    photographs: Photographs,
    which: np.ndarray,
    level: np.ndarray,
    top: np.ndarray,
    left: np.ndarray,
    fades: tuple[float, float],
    u: np.ndarray,
) -> np.ndarray:
    """Cut photographs at a place, with random flip, contrast and tint; float32 [B,3,32,32]."""
    width = photographs.width[which, level]
    steps = np.arange(SIZE)
    columns = np.where(u[:, 0, None] < 0.5, steps, steps[::-1]) + left[:, None]  # [B,32]
    rows = photographs.start[which, level, None] + (steps + top[:, None]) * width[:, None]
    where = (rows[:, :, None] + columns[:, None, :]).astype(np.int32)
    fade = _between(fades, u[:, 1])
    out = np.empty((len(which), 3, SIZE, SIZE), np.float32)
    for c in range(3):
        pixels = photographs.pixels[c].take(where)
        mean = (pixels.sum((1, 2), dtype=np.int64) / SIZE**2).astype(np.float32)
        tint = _between(TINT, u[:, 2 + c])
        out[:, c] = pixels
        out[:, c] *= (fade * tint)[:, None, None]
        out[:, c] += ((1 - fade) * tint * mean)[:, None, None]
    return np.clip(out, 0, 255, out=out)


def _colour(images: np.ndarray, masks: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Return each digit's colour, float32 [B,3], lighter or darker than what is behind its ink."""
    luma = sum((images[:, c].astype(np.int32) * w for c, w in enumerate(_LUMA)), np.int32(0))
    behind = (luma * masks).sum((1, 2), dtype=np.int64) / masks.sum((1, 2)) / 256
    contrast = _between(CONTRAST, u[:, 0]).astype(np.float64)
    lighter = np.where(
        (behind + contrast <= 255) & (behind - contrast >= 0), u[:, 1] < 0.5, behind < 127.5
    )
    grey = np.clip(np.where(lighter, behind + contrast, behind - contrast), 0, 255)
    # two opponent axes of no luminance; the triangle wave stands in for an angle of hue
    chroma = CHROMA * np.sqrt(u[:, 2])
    a = chroma * (4 * np.abs(u[:, 3] - 0.5) - 1)
    b = chroma * (4 * np.abs((u[:, 3] + 0.25) % 1 - 0.5) - 1)
    red, blue = grey + a, grey + b
    green = grey - (_LUMA[0] * a + _LUMA[2] * b) / _LUMA[1]
    return np.clip(np.stack([red, green, blue], 1), 0, 255).astype(np.float32)


def _shade(u: np.ndarray) -> np.ndarray:
    """Return the light that falls on the digit from one side: factors around 1, [B,32,32]."""
    ramp = ((np.arange(SIZE) + 0.5) / SIZE - 0.5).astype(np.float32)
    slope = (SHADE * (2 * u - 1)).astype(np.float32)
    return (1 + slope[:, :1] * ramp)[:, None, :] + (slope[:, 1:] * ramp)[:, :, None]


def _boxes(masks: np.ndarray) -> np.ndarray:
    """Return tight boxes of masks [B,32,32]: float32 [B,4], xyxy with exclusive maxima."""
    across, down = masks.max(axis=1), masks.max(axis=2)  # [B,32]
    least = [seen.argmax(1) for seen in (across, down)]
    most = [SIZE - seen[:, ::-1].argmax(1) for seen in (across, down)]
    return np.stack([*least, *most], 1).astype(np.float32)


def _between(limits: tuple[float, float], u: np.ndarray) -> np.ndarray:
    return (limits[0] + (limits[1] - limits[0]) * u).astype(np.float32)


def _uniforms(split: str, index: np.ndarray, seed: int) -> np.ndarray:
    """Draw uniform numbers in [0,1), float64 [B,_DRAWS], from (seed, split, index, draw).

    SplitMix64 (Steele, Lea & Flood 2014): its finaliser hashes the key word by word, its stream
    from there gives the draws.
    """
    gamma = 0x9E3779B97F4A7C15
    key = _mix(np.array([seed % 2**64], np.uint64))
    key = _mix(key + np.uint64((SPLITS.index(split) + 1) * gamma % 2**64))
    key = _mix(key + index.astype(np.uint64) * np.uint64(gamma))
    draw = np.arange(1, _DRAWS + 1, dtype=np.uint64) * np.uint64(gamma)
    return (_mix(key[:, None] + draw) >> np.uint64(11)) * 2.0**-53


def _mix(z: np.ndarray) -> np.ndarray:
    """Apply the finaliser of SplitMix64 to uint64."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _fingerprint(split: str, n: int, seed: int, composition: str) -> str:
    text = f"{composition} {VERSION} {split} {n} {seed} ".encode()
    sources = read_photographs().digest + read_digits().digest
    return hashlib.sha256(text + sources).hexdigest()[:16]
