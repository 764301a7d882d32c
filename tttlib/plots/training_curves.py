"""Training curves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from tttlib.models.training.recipes import Loss
from tttlib.plots.style import PAGE, PALETTE

_PHASES = get_args(Loss)


def training_curves(cards: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Losses of the bundled networks' cards: one panel each, one curve a phase.

    cards  name -> card with `losses` (a list for each phase, means over 50 steps) and `recipe`
    """
    columns = 3
    rows = -(-len(cards) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(PAGE, 1.9 * rows), squeeze=False)
    for axis, (name, card) in zip(axes.flat, cards.items(), strict=False):
        start = 0
        for losses, phase in zip(card["losses"], card["recipe"]["phases"], strict=True):
            steps = 50 * np.arange(start + 1, start + 1 + len(losses))
            color = PALETTE[_PHASES.index(phase["loss"])]
            label = "" if color in [line.get_color() for line in axis.lines] else phase["loss"]
            axis.plot(steps, losses, color=color, label=label, linewidth=1.2)
            start += len(losses)
        axis.set_title(name)
        axis.legend()
    for axis in axes.flat[len(cards) :]:
        axis.set_visible(False)
    for axis in axes[:, 0]:
        axis.set_ylabel("training loss")
    for axis in axes[-1]:
        axis.set_xlabel("step")
    return figure
