"""Diagrams of networks and of rules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from tttlib.plots.style import PAGE, PALETTE

_MOVING, _FIXED = PALETTE[1], "#9a9a9a"


class _Box(NamedTuple):
    """What stands in a box, where it is, and its colour."""

    text: str
    place: tuple[float, float, float, float]  # left, bottom, width, height
    color: str | None = None


_Arrow = tuple[tuple[float, float], tuple[float, float]]


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
    return _two_branches(boxes, ("visible 25 %", "all patches"))


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
    return _two_branches(boxes, ("turned copies", "upright image"))


def palm_rule() -> Figure:
    """Draw what PALM does with one batch, with the numbers of the paper's equations."""
    boxes = [
        _Box("batch\n→ logits z", (0, 26, 13, 11)),
        _Box("how far from uniform?\n$L_u$, its gradient $g_n$\n(1, 2)", (20, 24, 22, 15)),
        _Box("select small scores\n$\\Sigma|g_n| \\leq \\eta$\n(3)", (49, 24, 22, 15)),
        _Box("sensitivity $S = |\\theta g|$\nmean $E$, deviation $D$\n(4, 5, 6)", (78, 24, 22, 15)),
        _Box("rate of each tensor\n$\\kappa\\,$mean$\\,(D/E)$\n(7, 8)", (78, 2, 22, 15)),
        _Box("entropy + consistency\n$L$, its gradient\n(9, 10, 11)", (20, 2, 22, 15)),
        _Box("update of the\nselected tensors\n(11)", (49, 2, 22, 15), _MOVING),
    ]
    arrows = [
        ((13.6, 31.5), (19.4, 31.5)),
        ((42.6, 31.5), (48.4, 31.5)),
        ((71.6, 31.5), (77.4, 31.5)),
        ((89, 23.4), (89, 17.6)),
        ((77.4, 9.5), (71.6, 9.5)),
        ((42.6, 9.5), (48.4, 9.5)),
        ((6.5, 25.4), (19.4, 9.5)),
    ]
    return _drawn(boxes, arrows)[0]


def _two_branches(boxes: Sequence[_Box], notes: tuple[str, str]) -> Figure:
    """Draw input, trunk and two branches, what goes up and down them, and the way back."""
    arrows = [
        ((16.6, 20), (23.4, 20)),
        ((44.6, 22), (53.4, 31)),
        ((44.6, 18), (53.4, 8)),
        ((72.6, 31), (77.4, 31)),
        ((72.6, 8), (77.4, 8)),
    ]
    figure, axis = _drawn(boxes, arrows)
    back = FancyArrowPatch(
        (84, 36.8), (34, 27.6), connectionstyle="arc3,rad=0.22", arrowstyle="-|>",
        mutation_scale=11, color=_MOVING, linestyle="--", lw=1.3,
    )  # fmt: skip
    axis.add_patch(back)
    axis.text(40, 37.6, "gradient", color=_MOVING, fontsize=8, ha="center")
    axis.text(50, 22.8, notes[0], fontsize=7, va="center")
    axis.text(50, 16.6, notes[1], fontsize=7, va="center")
    return figure


def _drawn(boxes: Sequence[_Box], arrows: Sequence[_Arrow]) -> tuple[Figure, Axes]:
    """Draw boxes, and arrows between two points each."""
    figure, axis = plt.subplots(figsize=(PAGE, 2.6))
    axis.set(xlim=(-1, 101), ylim=(0, 41))
    axis.axis("off")
    for text, (x, y, width, height), color in boxes:
        axis.add_patch(
            FancyBboxPatch(
                (x, y), width, height, boxstyle="round,pad=0.3,rounding_size=1.5",
                facecolor=color or "white", alpha=0.55 if color else 1, edgecolor="black", lw=0.9,
            )
        )  # fmt: skip
        axis.text(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=8)
    for ends in arrows:
        axis.add_patch(FancyArrowPatch(*ends, arrowstyle="-|>", mutation_scale=9, color="black"))
    return figure, axis
