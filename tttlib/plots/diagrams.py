"""Diagrams of networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from tttlib.plots.style import PAGE, PALETTE

_MOVING, _FIXED = PALETTE[1], "#9a9a9a"


class _Box(NamedTuple):
    """What stands in a box, where it is, and its colour."""

    text: str
    place: tuple[float, float, float, float]  # left, bottom, width, height
    color: str | None = None


def y_network() -> Figure:
    """Draw the Y-shaped network: what is trained on the test image (colour), what stays (grey)."""
    boxes = [
        _Box("test image\n+ mask", (2, 15, 14, 10)),
        _Box("encoder e\n(trained at test time)", (24, 13, 20, 14), _MOVING),
        _Box("decoder d\n(frozen)", (54, 26, 18, 10), _FIXED),
        _Box("head h\n(frozen)", (54, 3, 18, 10), _FIXED),
        _Box("reconstruction\nloss on masked patches", (78, 26, 21, 10)),
        _Box("class", (78, 3, 21, 10)),
    ]
    return _draw(boxes, ("visible 25 %", "all patches"))


def rotation_network() -> Figure:
    """Draw the network that tells by how much its image was turned, as `y_network` does."""
    boxes = [
        _Box("test image,\ncropped, turned", (2, 15, 14, 10)),
        _Box("trunk θ\n(trained at test time)", (24, 13, 20, 14), _MOVING),
        _Box("rotation head φ\n(trained too)", (54, 26, 18, 10), _MOVING),
        _Box("class head\n(frozen)", (54, 3, 18, 10), _FIXED),
        _Box("0°, 90°, 180° or 270°?\ncross-entropy", (78, 26, 21, 10)),
        _Box("class", (78, 3, 21, 10)),
    ]
    return _draw(boxes, ("turned copies", "upright image"))


def _draw(boxes: Sequence[_Box], notes: tuple[str, str]) -> Figure:
    """Draw the six boxes, arrows between them, and what goes up and down the branches."""
    figure, axis = plt.subplots(figsize=(PAGE, 2.6))
    axis.set(xlim=(0, 100), ylim=(0, 40))
    axis.axis("off")
    for text, (x, y, width, height), color in boxes:
        axis.add_patch(
            FancyBboxPatch(
                (x, y), width, height, boxstyle="round,pad=0.3,rounding_size=1.5",
                facecolor=color or "white", alpha=0.55 if color else 1, edgecolor="black", lw=0.9,
            )
        )  # fmt: skip
        axis.text(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=8)
    arrows = [
        ((16.6, 20), (23.4, 20)),
        ((44.6, 22), (53.4, 31)),
        ((44.6, 18), (53.4, 8)),
        ((72.6, 31), (77.4, 31)),
        ((72.6, 8), (77.4, 8)),
    ]
    for ends in arrows:
        axis.add_patch(FancyArrowPatch(*ends, arrowstyle="-|>", mutation_scale=9, color="black"))
    back = FancyArrowPatch(
        (84, 36.8), (34, 27.6), connectionstyle="arc3,rad=0.22", arrowstyle="-|>",
        mutation_scale=11, color=_MOVING, linestyle="--", lw=1.3,
    )  # fmt: skip
    axis.add_patch(back)
    axis.text(40, 37.6, "gradient", color=_MOVING, fontsize=8, ha="center")
    axis.text(50, 22.8, notes[0], fontsize=7, va="center")
    axis.text(50, 16.6, notes[1], fontsize=7, va="center")
    return figure
