"""One image before and after test-time training, and what the network says of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from tttlib.plots.layout import name_rows
from tttlib.plots.pictures import draw
from tttlib.plots.style import PAGE, PALETTE

if TYPE_CHECKING:
    from tttlib.evaluate.step_by_step import Steps


def before_and_after(
    image: Tensor, adapted: Steps, classes: Sequence[str], label: int, title: str = "input"
) -> Figure:
    """Draw input, masked input, and reconstruction and class probabilities before and after TTT.

    Parameters
    ----------
    image
        [3,H,W] in [0,1].
    adapted
        From `evaluate.adaptation_steps`; before and after are its first and last state.
    classes, label
        The names of the classes, and which one is true.
    title
        Stands over the input.
    """
    last = len(adapted.losses) - 1
    figure, axes = plt.subplots(
        1, 5, figsize=(PAGE, 2.1), width_ratios=(1, 1, 1, 1, 1.4), layout="constrained"
    )
    pictures = {
        title: image,
        "masked": adapted.masked,
        f"before:\nloss {adapted.losses[0]:.4f}": adapted.reconstructions[0],
        f"after {last}:\nloss {adapted.losses[-1]:.4f}": adapted.reconstructions[-1],
    }
    for axis, (name, picture) in zip(axes, pictures.items(), strict=False):
        draw(axis, picture)
        axis.set_title(name, fontsize=8)
    ends = {"before": adapted.probabilities[0], "after": adapted.probabilities[-1]}
    probability_bars(axes[4], ends, classes, label)
    return figure


def probability_bars(
    axis: Axes, rows: Mapping[str, Tensor], classes: Sequence[str], label: int
) -> None:
    """Draw the five likeliest classes, and the true one where it is none of them.

    Parameters
    ----------
    axis
        The panel.
    rows
        Probabilities [C] by name, the last in full colour; with several there is a legend.
    classes, label
        The names of the classes, and which one is true: it has a tick and a colour.
    """
    likely = torch.stack([*rows.values()]).amax(0).argsort(descending=True)[:5].tolist()
    likely += [label] * (label not in likely)
    colors = [PALETTE[2] if i == label else "#9a9a9a" for i in likely]
    high = 0.8 / len(rows)
    for k, (name, probabilities) in enumerate(rows.items()):
        at = [place + high * (k - (len(rows) - 1) / 2) for place in range(len(likely))]
        fade = 1 if k == len(rows) - 1 else 0.45
        values = [100 * float(probabilities[i]) for i in likely]
        axis.barh(at, values, high, color=colors, alpha=fade, label=name)
    names = [classes[i][:18] + " ✓" * (i == label) for i in likely]
    name_rows(axis, names, fontsize=7)
    axis.set(xlim=(0, 100))
    axis.set_title("probability, %", fontsize=8)
    axis.tick_params(axis="x", labelsize=7)
    if len(rows) > 1:
        axis.legend(fontsize=6, loc="lower right")
