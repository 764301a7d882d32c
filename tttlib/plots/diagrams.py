"""Diagrams of networks and of rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from tttlib.plots.style import PAGE, PALETTE

_MOVING, _FIXED = PALETTE[1], "#9a9a9a"

Box = tuple[float, float, float, float, str | None]
Arrow = tuple[tuple[float, float], tuple[float, float]]


def y_network() -> Figure:
    """Draw the Y-shaped network: what is trained on the test image (colour), what stays (grey)."""
    boxes: dict[str, Box] = {
        "test image\n+ mask": (2, 15, 14, 10, None),
        "encoder e\n(trained at test time)": (24, 13, 20, 14, _MOVING),
        "decoder d\n(frozen)": (54, 26, 18, 10, _FIXED),
        "head h\n(frozen)": (54, 3, 18, 10, _FIXED),
        "reconstruction\nloss on masked patches": (78, 26, 21, 10, None),
        "class": (78, 3, 21, 10, None),
    }
    arrows = [
        ((16.6, 20), (23.4, 20)),
        ((44.6, 22), (53.4, 31)),
        ((44.6, 18), (53.4, 8)),
        ((72.6, 31), (77.4, 31)),
        ((72.6, 8), (77.4, 8)),
    ]
    figure, axis = _drawn(boxes, arrows, height=40)
    back = FancyArrowPatch(
        (84, 36.8), (34, 27.6), connectionstyle="arc3,rad=0.22", arrowstyle="-|>",
        mutation_scale=11, color=_MOVING, linestyle="--", lw=1.3,
    )  # fmt: skip
    axis.add_patch(back)
    axis.text(40, 37.6, "gradient", color=_MOVING, fontsize=8, ha="center")
    axis.text(50, 22.8, "visible 25 %", fontsize=7, va="center")
    axis.text(50, 16.6, "all patches", fontsize=7, va="center")
    return figure


def palm_rule() -> Figure:
    """Draw what PALM does with one batch, with the numbers of the paper's equations."""
    boxes: dict[str, Box] = {
        "batch\n→ logits z": (0, 26, 13, 11, None),
        "how far from uniform?\n$L_u$, its gradient $g_n$\n(1, 2)": (20, 24, 22, 15, None),
        "select small scores\n$\\Sigma|g_n| \\leq \\eta$\n(3)": (49, 24, 22, 15, None),
        "sensitivity $S = |\\theta g|$\nmean $E$, deviation $D$\n(4, 5, 6)": (78, 24, 22, 15, None),
        "rate of each tensor\n$\\kappa\\,$mean$\\,(D/E)$\n(7, 8)": (78, 2, 22, 15, None),
        "entropy + consistency\n$L$, its gradient\n(9, 10, 11)": (20, 2, 22, 15, None),
        "update of the\nselected tensors\n(11)": (49, 2, 22, 15, _MOVING),
    }
    arrows = [
        ((13.6, 31.5), (19.4, 31.5)),
        ((42.6, 31.5), (48.4, 31.5)),
        ((71.6, 31.5), (77.4, 31.5)),
        ((89, 23.4), (89, 17.6)),
        ((77.4, 9.5), (71.6, 9.5)),
        ((42.6, 9.5), (48.4, 9.5)),
        ((6.5, 25.4), (19.4, 9.5)),
    ]
    figure, _ = _drawn(boxes, arrows, height=41)
    return figure


def _drawn(boxes: Mapping[str, Box], arrows: Sequence[Arrow], height: float) -> tuple[Figure, Axes]:
    """Draw boxes (text -> x, y, width, height, colour) and arrows between two points each."""
    figure, axis = plt.subplots(figsize=(PAGE, 2.6))
    axis.set(xlim=(-1, 101), ylim=(0, height))
    axis.axis("off")
    for text, (x, y, width, tall, color) in boxes.items():
        axis.add_patch(
            FancyBboxPatch(
                (x, y), width, tall, boxstyle="round,pad=0.3,rounding_size=1.5",
                facecolor=color or "white", alpha=0.55 if color else 1, edgecolor="black", lw=0.9,
            )
        )  # fmt: skip
        axis.text(x + width / 2, y + tall / 2, text, ha="center", va="center", fontsize=8)
    for ends in arrows:
        axis.add_patch(FancyArrowPatch(*ends, arrowstyle="-|>", mutation_scale=9, color="black"))
    return figure, axis
