"""Scenes: handwritten digits over photographs, made on the spot from what scikit-learn and
scikit-image carry in their wheels. No download.

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
from dataclasses import dataclass, fields
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits

from tttlib.data.imageset import SPLITS, ImageSet, MissingDataError, check_split

VERSION = 1  # raise it whenever any pixel, label or box changes
SIZE = 32  # height = width of an image, pixels
CLASSES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
DEFAULT_N = {"train": 50_000, "valid": 5_000, "test": 10_000}

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
AREA = (0.045, 0.60)  # area of the digit's box / area of the image, before rounding to pixels
STRETCH = 0.12  # width and height of a digit change by at most this factor (opposite signs)
MAX_ANGLE = 15  # rotation, whole degrees
CONTRAST = (65.0, 150.0)  # |luminance of the digit - luminance behind it|, grey levels
CHROMA = 60.0  # largest departure of the digit's colour from grey, grey levels
OPACITY = (0.85, 1.0)
SHADE = 0.25  # largest relative change of the digit's brightness across half an image
FADE = (0.4, 1.0)  # contrast of the background relative to the photograph's
TINT = (0.75, 1.25)  # factor on each channel of the background
INK = 0.25  # pixels with less coverage than this show no ink

_UPSAMPLE = 4  # grid points per pixel of the 8x8 digits
_MARGIN = 2  # empty pixels around them
_GRID = _UPSAMPLE * (8 + 2 * _MARGIN)  # 48
_STROKE = 0.46  # share of full ink at the edge of a stroke
_CHUNK = 256  # images at a time
_LUMA = (77, 150, 29)  # Rec. 601 weights / 256
_DRAWS = 24


@dataclass(frozen=True)
class Scenes:
    """What `generate` returns: numpy arrays, one row per index.

    images uint8 [N,3,32,32], labels int64 [N], boxes float32 [N,4] (xmin, ymin, xmax, ymax; maxima
    exclusive), masks bool [N,32,32] (True where there is ink), photograph int64 [N] (row of
    `PHOTOGRAPHS`), digit int64 [N] (instance number in `load_digits`).
    """

    images: np.ndarray
    labels: np.ndarray
    boxes: np.ndarray
    masks: np.ndarray
    photograph: np.ndarray
    digit: np.ndarray


def load(
    split: str, root: str | Path | None = None, *, n: int | None = None, seed: int = 0
) -> ImageSet:
    """Images 0 … n-1 of a split (default `DEFAULT_N`); `root` is ignored, nothing is stored.

    ids are the indices (each split counts from 0); clusters are "photograph" and "digit". Raises
    ValueError for an unknown split or n < 1.
    """
    split = check_split("scenes", split, SPLITS)
    n = DEFAULT_N[split] if n is None else n
    if n < 1:
        raise ValueError(f"n={n} images of 'scenes' asked for; n must be at least 1")
    made = generate(split, np.arange(n), seed)
    return ImageSet(
        name="scenes",
        split=split,
        images=torch.from_numpy(made.images),
        labels=torch.from_numpy(made.labels),
        classes=CLASSES,
        ids=torch.arange(n),
        fingerprint=_fingerprint(split, n, seed),
        boxes=torch.from_numpy(made.boxes),
        clusters={
            "photograph": torch.from_numpy(made.photograph),
            "digit": torch.from_numpy(made.digit),
        },
    )


def generate(split: str, index: np.ndarray, seed: int = 0) -> Scenes:
    """The images at `index` (int64 [N], any order, 0 or more) of an endless split.

    Raises ValueError for an unknown split or a negative index.
    """
    split = check_split("scenes", split, SPLITS)
    index = np.asarray(index, dtype=np.int64).reshape(-1)
    if len(index) and index.min() < 0:
        raise ValueError(f"index {index.min()} of 'scenes'; indices count from 0")
    n = len(index)
    made = Scenes(
        images=np.empty((n, 3, SIZE, SIZE), np.uint8),
        labels=np.empty(n, np.int64),
        boxes=np.empty((n, 4), np.float32),
        masks=np.empty((n, SIZE, SIZE), bool),
        photograph=np.empty(n, np.int64),
        digit=np.empty(n, np.int64),
    )
    for start in range(0, n, _CHUNK):
        chunk = slice(start, start + _CHUNK)
        part = _chunk(split, _uniforms(split, index[chunk], seed))
        for f in fields(Scenes):
            getattr(made, f.name)[chunk] = getattr(part, f.name)
    return made


def _chunk(split: str, u: np.ndarray) -> Scenes:
    """One chunk of images from its uniform numbers [B,_DRAWS]."""
    photographs, digits = _photographs(), _digits()

    # which digit
    labels = (u[:, 0] * 10).astype(np.int64)
    first, count = digits.first[split][labels], digits.count[split][labels]
    digit = digits.order[split][first + (u[:, 1] * count).astype(np.int64)]
    alpha = _coverage(digits, digit, u[:, 2:8])  # float32 [B,32,32]
    masks = alpha > 0

    # which background
    rows = np.array([i for i, (_, s) in enumerate(PHOTOGRAPHS) if s == split])
    photograph = rows[(u[:, 8] * len(rows)).astype(np.int64)]
    images = _background(photographs, photograph, u[:, 9:17])  # float32 [B,3,32,32]

    colour = _colour(images, masks, u[:, 17:21])  # float32 [B,3]
    shade = _shade(u[:, 21:23])  # float32 [B,32,32]
    alpha *= _between(OPACITY, u[:, 23])[:, None, None]
    for c in range(3):
        ink = colour[:, c, None, None] * shade
        images[:, c] += alpha * (ink - images[:, c])
    np.clip(images + np.float32(0.5), 0, 255, out=images)
    return Scenes(images.astype(np.uint8), labels, _boxes(masks), masks, photograph, digit)


def _coverage(digits: _Digits, digit: np.ndarray, u: np.ndarray) -> np.ndarray:
    """How much of each pixel the digit covers, float32 [B,32,32], 0 where it is below INK.

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
    small, large = np.sqrt(AREA[0]), np.sqrt(np.minimum(AREA[1], largest))
    scale = (small + (large - small) * u[:, 2]) / np.sqrt(area)
    box = shape * scale[:, None]
    centre = 1 + box / 2 + (SIZE - 2 - box) * u[:, 3:5]

    pixel = np.arange(SIZE, dtype=np.float32) + np.float32(0.5)
    middle = (low + high) / 2
    step = (extent / box).astype(np.float32)  # template pixels per image pixel
    start = (middle - centre * extent / box).astype(np.float32)
    x = pixel[None, :] * step[:, :1] + start[:, :1]  # [B,32], turned template coordinates
    y = pixel[None, :] * step[:, 1:] + start[:, 1:]
    cos, sin = (f[turn, None].astype(np.float32) for f in _turns())
    shift = np.float32(_GRID / 2 - 0.5)
    k = np.float32(_UPSAMPLE)
    column = (x * (k * cos))[:, None, :] + (y * (k * sin) + shift)[:, :, None]  # [B,32,32]
    row = (x * (-k * sin))[:, None, :] + (y * (k * cos) + shift)[:, :, None]
    value = _bilinear(digits.templates, digit, row, column)

    # the edge of a stroke is about one image pixel wide, whatever the size
    edge = (1.3 / np.sqrt(step.prod(1))).astype(np.float32)[:, None, None]
    alpha = np.clip((value - np.float32(_STROKE)) * edge + np.float32(0.5), 0, 1)
    alpha[alpha < np.float32(INK)] = 0
    return alpha


def _bilinear(
    templates: np.ndarray, which: np.ndarray, row: np.ndarray, column: np.ndarray
) -> np.ndarray:
    """Values of templates [T,G,G] at fractional grid positions [B,H,W]; the border is repeated."""
    top = np.float32(_GRID - 1.001)
    np.clip(row, 0, top, out=row)
    np.clip(column, 0, top, out=column)
    r, c = row.astype(np.int32), column.astype(np.int32)
    row -= r
    column -= c
    base = which.astype(np.int32)[:, None, None] * _GRID**2 + r * _GRID + c
    flat = templates.reshape(-1)
    upper = flat.take(base)
    upper += column * (flat.take(base + 1) - upper)
    base += _GRID
    lower = flat.take(base)
    lower += column * (flat.take(base + 1) - lower)
    upper += row * (lower - upper)
    return upper


def _background(photographs: _Photographs, which: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Crops of photographs, float32 [B,3,32,32]: random scale, place, flip, contrast and tint."""
    level = (u[:, 0] * len(LEVELS)).astype(np.int64)
    height, width = photographs.height[which, level], photographs.width[which, level]
    y = (u[:, 1] * (height - SIZE + 1)).astype(np.int64)
    x = (u[:, 2] * (width - SIZE + 1)).astype(np.int64)
    steps = np.arange(SIZE)
    columns = np.where(u[:, 3, None] < 0.5, steps, steps[::-1]) + x[:, None]  # [B,32]
    rows = photographs.start[which, level, None] + (steps + y[:, None]) * width[:, None]
    where = (rows[:, :, None] + columns[:, None, :]).astype(np.int32)
    fade = _between(FADE, u[:, 4])
    out = np.empty((len(which), 3, SIZE, SIZE), np.float32)
    for c in range(3):
        pixels = photographs.pixels[c].take(where)
        mean = (pixels.sum((1, 2), dtype=np.int64) / SIZE**2).astype(np.float32)
        tint = _between(TINT, u[:, 5 + c])
        out[:, c] = pixels
        out[:, c] *= (fade * tint)[:, None, None]
        out[:, c] += ((1 - fade) * tint * mean)[:, None, None]
    return np.clip(out, 0, 255, out=out)


def _colour(images: np.ndarray, masks: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Colour of each digit, float32 [B,3], lighter or darker than what is behind its ink."""
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
    """Light falling on the digit from one side: a factor around 1, float32 [B,32,32]."""
    ramp = ((np.arange(SIZE) + 0.5) / SIZE - 0.5).astype(np.float32)
    slope = (SHADE * (2 * u - 1)).astype(np.float32)
    return (1 + slope[:, :1] * ramp)[:, None, :] + (slope[:, 1:] * ramp)[:, :, None]


def _boxes(masks: np.ndarray) -> np.ndarray:
    """Tight boxes of masks [B,32,32], float32 [B,4] xyxy with exclusive maxima."""
    across, down = masks.max(axis=1), masks.max(axis=2)  # [B,32]
    return np.stack(
        [
            across.argmax(1),
            down.argmax(1),
            SIZE - across[:, ::-1].argmax(1),
            SIZE - down[:, ::-1].argmax(1),
        ],
        axis=1,
    ).astype(np.float32)


def _between(limits: tuple[float, float], u: np.ndarray) -> np.ndarray:
    return (limits[0] + (limits[1] - limits[0]) * u).astype(np.float32)


def _uniforms(split: str, index: np.ndarray, seed: int) -> np.ndarray:
    """Uniform numbers in [0,1), float64 [B,_DRAWS], from (seed, split, index, draw).

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
    """The finaliser of SplitMix64 on uint64."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@dataclass(frozen=True)
class _Photographs:
    """All photographs at all levels, end to end."""

    pixels: np.ndarray  # uint8 [3,P]
    start: np.ndarray  # int64 [photograph, level]
    height: np.ndarray
    width: np.ndarray
    digest: bytes  # sha256 over the files


@cache
def _photographs() -> _Photographs:
    digest = hashlib.sha256()
    planes, start, shapes, total = [], [], [], 0
    for file, _ in PHOTOGRAPHS:
        path = _installed(file)
        digest.update(path.read_bytes())
        with Image.open(path) as opened:
            image = opened.convert("RGB")
        for side in LEVELS:
            factor = side / min(image.size)
            small = image.resize(
                (round(image.width * factor), round(image.height * factor)), Image.Resampling.BOX
            )
            planes.append(np.asarray(small).reshape(-1, 3).T)
            start.append(total)
            shapes.append((small.height, small.width))
            total += small.height * small.width
    table = (len(PHOTOGRAPHS), len(LEVELS))
    size = np.array(shapes).reshape(*table, 2)
    pixels = np.ascontiguousarray(np.concatenate(planes, axis=1))
    return _Photographs(
        pixels, np.array(start).reshape(table), size[..., 0], size[..., 1], digest.digest()
    )


def _installed(file: str) -> Path:
    """Path of a file inside an installed package, which is not imported."""
    package, _, inside = file.partition("/")
    spec = find_spec(package)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (Path(folder) / inside).is_file():
            return Path(folder) / inside
    raise MissingDataError(
        f"'scenes' needs {file}, which the wheel of {package} carries but this installation lacks; "
        "reinstall scikit-image and scikit-learn from their wheels"
    )


@dataclass(frozen=True)
class _Digits:
    """Upsampled digits, how far they reach when turned, and the instances of each class."""

    templates: np.ndarray  # float32 [1797,48,48] in [0,1]
    low: np.ndarray  # float64 [1797,turn,2]: least x, y of the ink; pixels of the 8x8, 0 = centre
    high: np.ndarray
    order: dict[str, np.ndarray]  # instances of a split, sorted by class
    first: dict[str, np.ndarray]  # int64 [10]: where each class starts in `order`
    count: dict[str, np.ndarray]
    digest: bytes


@cache
def _digits() -> _Digits:
    source = load_digits()
    ink, labels = source.images / 16.0, source.target.astype(np.int64)
    up = _cubic()
    templates = np.einsum("ir,nrc,jc->nij", up, ink, up, optimize=["einsum_path", (0, 1), (0, 1)])
    low, high = _reach(templates >= _STROKE)
    order, first, count = {}, {}, {}
    for split, ranges in DIGITS.items():
        rows = np.concatenate([np.array(members) for members in ranges])
        order[split] = rows[np.argsort(labels[rows], kind="stable")]
        count[split] = np.bincount(labels[rows], minlength=10)
        first[split] = np.cumsum(count[split]) - count[split]
    digest = hashlib.sha256(source.images.astype(np.uint8).tobytes() + labels.tobytes()).digest()
    return _Digits(
        np.clip(templates, 0, 1).astype(np.float32), low, high, order, first, count, digest
    )


def _cubic() -> np.ndarray:
    """Catmull-Rom interpolation from 8 pixels (zero outside) to the grid, [48,8].

    The weights are multiples of 2^-10, so products and sums of digits are exact in float64.
    """
    at = (np.arange(_GRID) + 0.5) / _UPSAMPLE - _MARGIN - 0.5
    d = np.abs(at[:, None] - np.arange(8))
    near = 1.5 * d**3 - 2.5 * d**2 + 1
    far = -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))


def _reach(ink: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Least and greatest turned x, y of ink [T,G,G], each [T,turn,2].

    Only the first and last ink of each row can be extreme.
    """
    at = (np.arange(_GRID) + 0.5 - _GRID / 2) / _UPSAMPLE
    left, right = ink.argmax(2), _GRID - 1 - ink[:, :, ::-1].argmax(2)  # [T,G]
    x = np.concatenate([at[left], at[right]], 1)  # [T,2G]
    y = np.concatenate([at, at])
    absent = ~np.concatenate([ink.any(2)] * 2, 1)
    low, high = [], []
    for cos, sin in zip(*_turns(), strict=True):
        turned = np.stack([cos * x - sin * y, sin * x + cos * y], 2)  # [T,2G,2]
        low.append(np.where(absent[..., None], np.inf, turned).min(1))
        high.append(np.where(absent[..., None], -np.inf, turned).max(1))
    return np.stack(low, 1), np.stack(high, 1)


def _turns() -> tuple[np.ndarray, np.ndarray]:
    """Cosine and sine of the angles -MAX_ANGLE … MAX_ANGLE."""
    angle = np.deg2rad(np.arange(-MAX_ANGLE, MAX_ANGLE + 1))
    return np.cos(angle), np.sin(angle)


def _fingerprint(split: str, n: int, seed: int) -> str:
    text = f"scenes {VERSION} {split} {n} {seed} ".encode()
    sources = _photographs().digest + _digits().digest
    return hashlib.sha256(text + sources).hexdigest()[:16]
