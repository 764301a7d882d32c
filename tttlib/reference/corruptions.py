"""The corruptions the obvious way: one image at a time with NumPy, SciPy, OpenCV and Pillow.

Parameters and steps are those of `tttlib.corruptions`, which the tests hold to this module and
`tttlib bench corruptions` compares with it. It needs OpenCV, which comes with the `frost` extra.

Source: Hendrycks and Dietterich, ICLR 2019, arXiv 1903.12261.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable

import cv2
import numpy as np
from numpy.random import RandomState
from PIL import Image
from scipy import ndimage
from skimage import color, filters

from tttlib.corruptions import weather
from tttlib.corruptions.recipes import EXTRA_NAMES, NAMES, recipe_of


def corrupt(image: np.ndarray, name: str, severity: int, random: RandomState) -> np.ndarray:
    """Return the corrupted copy of an RGB image, uint8 [H,W,3].

    Parameters
    ----------
    image
        uint8 [H,W,3], RGB.
    name, severity
        One of the corruptions and a severity from 1 to 5.
    random
        Draws the random fields, in the order of the released scripts.
    """
    parameters = recipe_of(name).levels(min(image.shape[:2]))[severity - 1]
    return (np.clip(_FUNCTIONS[name](image, random, *parameters), 0, 1) * 255).astype(np.uint8)


def _gaussian_noise(image: np.ndarray, random: RandomState, std: float) -> np.ndarray:
    return image / 255.0 + random.normal(0, std, image.shape)


def _shot_noise(image: np.ndarray, random: RandomState, photons: float) -> np.ndarray:
    return random.poisson(image / 255.0 * photons) / float(photons)


def _impulse_noise(image: np.ndarray, random: RandomState, share: float) -> np.ndarray:
    hit = random.random_sample(image.shape) < share
    salt = random.random_sample(image.shape) < 0.5
    return np.where(hit, salt, image / 255.0)


def _speckle_noise(image: np.ndarray, random: RandomState, std: float) -> np.ndarray:
    x = image / 255.0
    return x + x * random.normal(0, std, x.shape)


def _gaussian_blur(image: np.ndarray, random: RandomState, sigma: float) -> np.ndarray:
    return filters.gaussian(image / 255.0, sigma=sigma, channel_axis=-1)


def _defocus_blur(
    image: np.ndarray, random: RandomState, radius: float, sigma: float
) -> np.ndarray:
    grid, window = (np.arange(-8, 9), 3) if radius <= 8 else (np.arange(-radius, radius + 1), 5)
    disk = (grid[:, None] ** 2 + grid**2 <= radius**2).astype(np.float32)
    kernel = cv2.GaussianBlur(disk / disk.sum(), ksize=(window, window), sigmaX=sigma)
    x = image / 255.0
    return np.stack([cv2.filter2D(x[..., c], -1, kernel) for c in range(3)], -1)


def _glass_blur(
    image: np.ndarray, random: RandomState, sigma: float, reach: int, passes: int
) -> np.ndarray:
    x = (filters.gaussian(image / 255.0, sigma=sigma, channel_axis=-1) * 255).astype(np.uint8)
    height, width = x.shape[:2]
    for _ in range(passes):
        for h in range(height - reach, reach, -1):
            for w in range(width - reach, reach, -1):
                dx, dy = random.randint(-reach, reach, size=(2,))
                x[h, w] = x[h + dy, w + dx]
    return filters.gaussian(x / 255.0, sigma=sigma, channel_axis=-1)


def _smear(image: np.ndarray, angle: float, radius: float, sigma: float) -> np.ndarray:
    """Blur an image [H,W,...] of whole grey levels as ImageMagick does."""
    size = 2 * math.ceil(radius) + 1
    weights = np.exp(-(np.arange(size) ** 2) / (2 * sigma**2))
    weights /= weights.sum()
    across, down = size * math.cos(math.radians(angle)), size * math.sin(math.radians(angle))
    length = math.hypot(across, down)
    total = np.zeros(image.shape)
    rows, columns = np.arange(image.shape[0]), np.arange(image.shape[1])
    for i, weight in enumerate(weights):
        r = np.clip(rows + math.ceil(i * down / length - 0.5), 0, len(rows) - 1)
        c = np.clip(columns + math.ceil(i * across / length - 0.5), 0, len(columns) - 1)
        total += weight * image[r[:, None], c]
    return np.floor(np.floor(total * 257 + 0.5) / 257)


def _motion_blur(image: np.ndarray, random: RandomState, radius: float, sigma: float) -> np.ndarray:
    return _smear(image, random.uniform(-45, 45), radius, sigma) / 255.0


def _clipped_zoom(x: np.ndarray, factor: float) -> np.ndarray:
    side = x.shape[0]
    crop = math.ceil(side / factor)
    top = (side - crop) // 2
    factors = (factor, factor, *(1,) * (x.ndim - 2))
    x = ndimage.zoom(x[top : top + crop, top : top + crop], factors, order=1)
    trim = (x.shape[0] - side) // 2
    return x[trim : trim + side, trim : trim + side]


def _zoom_blur(image: np.ndarray, random: RandomState, step: float, count: int) -> np.ndarray:
    x = (image / 255.0).astype(np.float32)
    total = np.zeros_like(x)
    for i in range(count):
        total += _clipped_zoom(x, 1.0 + i * ((1.0 + step) - 1.0))
    return (x + total) / (count + 1)


def _snow(image: np.ndarray, random: RandomState, *recipe: float) -> np.ndarray:
    mean, std, zoom, threshold, radius, sigma, mix = recipe
    x = image.astype(np.float32) / 255.0
    layer = _clipped_zoom(random.normal(mean, std, x.shape[:2]), zoom)
    layer[layer < threshold] = 0
    layer = (np.clip(layer, 0, 1) * 255).astype(np.uint8)
    layer = _smear(layer, random.uniform(-135, -45), radius, sigma)[..., None] / 255.0
    grey = cv2.cvtColor(x, cv2.COLOR_RGB2GRAY)[..., None]
    x = mix * x + (1 - mix) * np.maximum(x, grey * 1.5 + 0.5)
    return x + layer + np.rot90(layer, k=2)


def _frost(
    image: np.ndarray, random: RandomState, scale: float, share: float, ice: float
) -> np.ndarray:
    photograph = weather._read_frost()[random.randint(5)]
    photograph = cv2.resize(photograph, (0, 0), fx=scale, fy=scale)
    height, width = image.shape[:2]
    top = random.randint(0, photograph.shape[0] - height)
    left = random.randint(0, photograph.shape[1] - width)
    crop = photograph[top : top + height, left : left + width]
    return (share * image + ice * crop) / 255.0


def _fog(image: np.ndarray, random: RandomState, amount: float, decay: float) -> np.ndarray:
    x = image / 255.0
    height, width = x.shape[:2]
    plasma = _plasma(2 ** max(1, (max(height, width) - 1).bit_length()), decay, random)
    brightest = x.max()
    return (x + amount * plasma[:height, :width, None]) * brightest / (brightest + amount)


def _plasma(side: int, decay: float, random: RandomState) -> np.ndarray:
    """Return a diamond-square fractal on a periodic grid, [side,side] in [0,1]."""
    grid, step, wobble = np.zeros((side, side)), side, 100.0

    def mean(total: np.ndarray) -> np.ndarray:
        return total / 4 + wobble * random.uniform(-wobble, wobble, total.shape)

    while step >= 2:
        half = step // 2
        corners = grid[::step, ::step]
        total = corners + np.roll(corners, -1, 0)
        grid[half::step, half::step] = mean(total + np.roll(total, -1, 1))
        centres = grid[half::step, half::step]
        right = centres + np.roll(centres, 1, 0) + corners + np.roll(corners, -1, 1)
        grid[::step, half::step] = mean(right)
        below = centres + np.roll(centres, 1, 1) + corners + np.roll(corners, -1, 0)
        grid[half::step, ::step] = mean(below)
        step, wobble = half, wobble / decay
    grid -= grid.min()
    return grid / grid.max()


def _brightness(image: np.ndarray, random: RandomState, shift: float) -> np.ndarray:
    x = color.rgb2hsv(image / 255.0)
    x[..., 2] = np.clip(x[..., 2] + shift, 0, 1)
    return color.hsv2rgb(x)


def _saturate(image: np.ndarray, random: RandomState, factor: float, shift: float) -> np.ndarray:
    x = color.rgb2hsv(image / 255.0)
    x[..., 1] = np.clip(x[..., 1] * factor + shift, 0, 1)
    return color.hsv2rgb(x)


def _contrast(image: np.ndarray, random: RandomState, factor: float) -> np.ndarray:
    x = image / 255.0
    mean = x.mean(axis=(0, 1), keepdims=True)
    return (x - mean) * factor + mean


def _pixelate(image: np.ndarray, random: RandomState, ratio: float) -> np.ndarray:
    height, width = image.shape[:2]
    size = (int(width * ratio), int(height * ratio))
    small = Image.fromarray(image).resize(size, Image.Resampling.BOX)
    return np.asarray(small.resize((width, height), Image.Resampling.BOX)) / 255.0


def _jpeg_compression(image: np.ndarray, random: RandomState, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file)) / 255.0


def _elastic_transform(
    image: np.ndarray, random: RandomState, amplitude: float, sigma: float, shift: float
) -> np.ndarray:
    x = (image / 255.0).astype(np.float32)
    height, width = x.shape[:2]
    middle = np.array((width // 2, height // 2), np.float32)
    reach = min(height, width) // 3
    across = np.array((reach, -reach), np.float32)
    corners = np.stack([middle + reach, middle + across, middle - reach])
    moved = corners + random.uniform(-shift, shift, corners.shape).astype(np.float32)
    matrix = cv2.getAffineTransform(corners, moved)
    warped = cv2.warpAffine(x, matrix, (width, height), borderMode=cv2.BORDER_REFLECT_101)
    fields = [random.uniform(-1, 1, (height, width)) for _ in range(2)]
    smooth = [filters.gaussian(field, sigma, mode="reflect", truncate=3) for field in fields]
    across, down = ((amplitude * field).astype(np.float32) for field in smooth)
    rows, columns = np.mgrid[:height, :width]
    places, how = [rows + down, columns + across], {"order": 1, "mode": "reflect"}
    channels = [ndimage.map_coordinates(warped[..., c], places, **how) for c in range(3)]
    return np.stack(channels, -1)


def _spatter(image: np.ndarray, random: RandomState, *recipe: float) -> np.ndarray:
    mean, std, sigma, threshold, strength, mud = recipe
    x = image.astype(np.float32) / 255.0
    layer = filters.gaussian(random.normal(mean, std, x.shape[:2]), sigma=sigma)
    layer[layer < threshold] = 0
    if mud:
        cover = (layer > threshold).astype(np.float32)
        cover = filters.gaussian(cover, sigma=strength)
        cover[cover < 0.8] = 0
        brown = np.array((63, 42, 20), np.float32)
        return x * (1 - cover[..., None]) + cover[..., None] * brown / 255
    layer = (layer * 255).astype(np.uint8)
    distance = cv2.distanceTransform(255 - cv2.Canny(layer, 50, 150), cv2.DIST_L2, 5)
    _, distance = cv2.threshold(distance, 20, 20, cv2.THRESH_TRUNC)
    relief = cv2.equalizeHist(cv2.blur(distance, (3, 3)).astype(np.uint8))
    relief = cv2.filter2D(relief, cv2.CV_8U, np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]]))
    water = layer * cv2.blur(relief, (3, 3)).astype(np.float32)
    water = water / max(water.max(), 1) * strength
    return x + water[..., None] * np.array((175, 238, 238), np.float32) / 255


_FUNCTIONS: dict[str, Callable[..., np.ndarray]] = {
    name: globals()[f"_{name}"] for name in (*NAMES, *EXTRA_NAMES)
}
