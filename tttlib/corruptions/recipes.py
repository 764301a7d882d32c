"""The corruptions by name: which function makes them, with which parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from tttlib.corruptions import (
    blur,
    colour,
    digital,
    elastic,
    glass,
    jpeg,
    motion,
    noise,
    spatter,
    weather,
)


@dataclass(frozen=True)
class Recipe:
    """How one corruption is made.

    Attributes
    ----------
    function
        f(x, fields, *parameters) -> [B,3,H,W], not yet clipped. x is [B,3,H,W] in [0,1], float32 or
        in reference mode float64, and may be overwritten.
    parameters
        The parameters of severities 1 to 5 by image size.
    white
        The value that the function returns for white: 1, or 255 where results are whole grey levels
        only before a division by 255.
    mix
        What a severity between two whole numbers means: False interpolates the parameters, True
        interpolates the two results (where parameters act in steps).
    pixels
        How many pixels to work on at once, relative to the usual number: more for functions of many
        small steps.
    """

    function: Callable[..., Tensor]
    parameters: Mapping[int, tuple]
    white: int = 1
    mix: bool = False
    pixels: int = 1

    def levels(self, side: int) -> list[tuple]:
        """Return the parameters of severities 1 to 5 of the size nearest to `side` pixels."""
        table = self.parameters[min(self.parameters, key=lambda size: abs(size - side))]
        return [level if isinstance(level, tuple) else (level,) for level in table]


RECIPES = {
    "gaussian_noise": Recipe(noise.gaussian_noise, noise.GAUSSIAN_NOISE),
    "shot_noise": Recipe(noise.shot_noise, noise.SHOT_NOISE),
    "impulse_noise": Recipe(noise.impulse_noise, noise.IMPULSE_NOISE),
    "defocus_blur": Recipe(blur.defocus_blur, blur.DEFOCUS_BLUR, mix=True),
    "glass_blur": Recipe(glass.glass_blur, glass.GLASS_BLUR, mix=True),
    "motion_blur": Recipe(motion.motion_blur, motion.MOTION_BLUR),
    "zoom_blur": Recipe(blur.zoom_blur, blur.ZOOM_BLUR, mix=True),
    "snow": Recipe(weather.snow, weather.SNOW),
    "frost": Recipe(weather.frost, weather.FROST, white=255, pixels=2),
    "fog": Recipe(weather.fog, weather.FOG, pixels=2),
    "brightness": Recipe(colour.brightness, colour.BRIGHTNESS),
    "contrast": Recipe(digital.contrast, digital.CONTRAST),
    "elastic_transform": Recipe(elastic.elastic_transform, elastic.ELASTIC_TRANSFORM),
    "pixelate": Recipe(digital.pixelate, digital.PIXELATE),
    "jpeg_compression": Recipe(jpeg.jpeg_compression, jpeg.JPEG_COMPRESSION),
    # held out for validation
    "speckle_noise": Recipe(noise.speckle_noise, noise.SPECKLE_NOISE),
    "gaussian_blur": Recipe(blur.gaussian_blur, blur.GAUSSIAN_BLUR),
    "spatter": Recipe(spatter.spatter, spatter.SPATTER, mix=True),
    "saturate": Recipe(colour.saturate, colour.SATURATE, mix=True),
    # as the libraries of 2018 made it, with the fields of the name without the year
    "elastic_transform_2018": Recipe(elastic.elastic_transform_2018, elastic.ELASTIC_TRANSFORM),
}
_ALL = tuple(RECIPES)
NAMES, EXTRA_NAMES, VARIANT_NAMES = _ALL[:15], _ALL[15:19], _ALL[19:]
"""The 15 corruptions of the benchmark, in the canonical order of continual adaptation; the four
that are held out for validation; and those as the libraries of 2018 made them."""


def recipe_of(name: str) -> Recipe:
    """Return the recipe of a corruption.

    Raises
    ------
    ValueError
        If the name is unknown; the message lists the legal ones.
    """
    if name not in RECIPES:
        raise ValueError(
            f"unknown corruption {name!r}; legal are {', '.join(NAMES)}, the extra "
            f"{', '.join(EXTRA_NAMES)} and the variant {', '.join(VARIANT_NAMES)}"
        )
    return RECIPES[name]
