"""Training curves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

import numpy as np
from matplotlib.figure import Figure

from tttlib.models.training.recipes import Loss
from tttlib.plots.layout import label_panels, panels
from tttlib.plots.style import PALETTE

_PHASES = get_args(Loss)


def training_curves(cards: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Draw the losses of the bundled networks: one panel each, one curve per phase.

    Parameters
    ----------
    cards
        Name -> card with `losses` (a list for each phase, means over 50 steps) and `recipe`.
    """
    figure, axes = panels(len(cards), 3, 1.9)
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
    label_panels(axes, "step", "training loss")
    return figure
