"""Figures as functions of tables: one style, no `plt.show`.

Colours are fixed per domain and per method, so that a reader who learned them in one notebook can
read the next. Accuracies enter as fractions in [0,1] and are drawn in per cent.
"""

from tttlib.plots.accuracy import accuracy_by_step, accuracy_curves, gains
from tttlib.plots.diagrams import y_network
from tttlib.plots.latents import latent_scatter, shares, trajectories
from tttlib.plots.objects import (
    accuracy_by_size,
    class_gains,
    class_scatter,
    forest,
    object_examples,
)
from tttlib.plots.pictures import corruption_gallery, image_grid
from tttlib.plots.style import (
    COLUMN,
    DOMAIN_COLORS,
    PAGE,
    PALETTE,
    pretty,
    save,
    save_table,
    use_style,
)
from tttlib.plots.training import training_curves

__all__ = [
    "COLUMN",
    "DOMAIN_COLORS",
    "PAGE",
    "PALETTE",
    "accuracy_by_size",
    "accuracy_by_step",
    "accuracy_curves",
    "class_gains",
    "class_scatter",
    "corruption_gallery",
    "forest",
    "gains",
    "image_grid",
    "latent_scatter",
    "object_examples",
    "pretty",
    "save",
    "save_table",
    "shares",
    "training_curves",
    "trajectories",
    "use_style",
    "y_network",
]
