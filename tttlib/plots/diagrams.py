"""Diagrams of networks."""

from __future__ import annotations

from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from tttlib.plots.style import PAGE, PALETTE


def y_network() -> Figure:
    """Draw the Y-shaped network: what is trained on the test image (colour), what stays (grey)."""
    figure, axis = plt.subplots(figsize=(PAGE, 2.6))
    axis.set(xlim=(0, 100), ylim=(0, 40))
    axis.axis("off")
    moving, fixed = PALETTE[1], "#9a9a9a"
    boxes = {
        "test image\n+ mask": (2, 15, 14, 10, None),
        "encoder e\n(trained at test time)": (24, 13, 20, 14, moving),
        "decoder d\n(frozen)": (54, 26, 18, 10, fixed),
        "head h\n(frozen)": (54, 3, 18, 10, fixed),
        "reconstruction\nloss on masked patches": (78, 26, 21, 10, None),
        "class": (78, 3, 21, 10, None),
    }
    for text, (x, y, width, height, color) in boxes.items():
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
        mutation_scale=11, color=moving, linestyle="--", lw=1.3,
    )  # fmt: skip
    axis.add_patch(back)
    axis.text(40, 37.6, "gradient", color=moving, fontsize=8, ha="center")
    axis.text(50, 22.8, "visible 25 %", fontsize=7, va="center")
    axis.text(50, 16.6, "all patches", fontsize=7, va="center")
    return figure
