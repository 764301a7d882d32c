"""Images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest

import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from tttlib import corruptions
from tttlib.plots.style import pretty


def image_grid(columns: Mapping[str, Tensor], row_titles: Sequence[str] = ()) -> Figure:
    """Draw images [N,3,H,W] in [0,1]: one column per entry, one row per image."""
    n = len(next(iter(columns.values())))
    size = 0.95
    figure, axes = plt.subplots(
        n, len(columns), figsize=(size * len(columns) + 1.0, size * n + 0.25), squeeze=False
    )
    for j, (title, images) in enumerate(columns.items()):
        axes[0, j].set_title(title, fontsize=8, loc="center")
        for i in range(n):
            draw(axes[i, j], images[i])
    for axis, title in zip(axes[:, 0], row_titles, strict=False):
        axis.set_ylabel(pretty(title), fontsize=8)
    return figure


def titled_images(images: Mapping[str, Tensor], columns: int = 8) -> Figure:
    """Draw images [3,H,W] in [0,1], each below its own title, in rows of `columns`."""
    rows = -(-len(images) // columns)
    size = (1.05 * columns, 1.25 * rows)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False)
    for axis, title in zip_longest(axes.flat, images):
        without_frame(axis)
        if title is not None:
            draw(axis, images[title])
            axis.set_title(pretty(title), fontsize=7, loc="center")
    return figure


def corruption_gallery(image: Tensor) -> Figure:
    """Draw an image, uint8 [3,H,W], under every corruption (rows) and severity (columns)."""
    names, severities = corruptions.NAMES + corruptions.EXTRA_NAMES, (1, 2, 3, 4, 5)
    rows = [
        torch.cat([image, *(corruptions.corrupt(image[None], name, s)[0] for s in severities)], 2)
        for name in names
    ]
    height, width = image.shape[1:]
    inches = 0.9
    size = (inches * (len(severities) + 1) * width / height + 1.4, inches * len(names) + 0.3)
    figure, axis = plt.subplots(figsize=size, layout="constrained")
    axis.imshow(torch.cat(rows, 1).permute(1, 2, 0).numpy())
    without_frame(axis)
    axis.set_yticks([height * (i + 0.5) for i in range(len(names))], [pretty(n) for n in names])
    titles = ["clean", *(f"severity {s}" for s in severities)]
    axis.set_xticks([width * (i + 0.5) for i in range(len(titles))], titles)
    axis.xaxis.tick_top()
    axis.tick_params(length=0, labelsize=9)
    return figure


def draw(axis: Axes, image: Tensor) -> None:
    """Draw an image [3,H,W] in [0,1] without axes and frame."""
    axis.imshow(image.permute(1, 2, 0).clamp(0, 1).numpy(), interpolation="nearest")
    without_frame(axis)


def without_frame(axis: Axes) -> None:
    """Take ticks, grid and frame off a panel."""
    axis.set(xticks=[], yticks=[])
    axis.grid(visible=False)
    axis.spines[:].set_visible(False)
