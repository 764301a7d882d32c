"""Figures as functions of tables: one style, no `plt.show`.

Colours are fixed per domain and per method, so that a reader who learned them in one notebook can
read the next. Accuracies enter as fractions in [0,1] and are drawn in per cent.
"""

from tttlib.plots.accuracy import accuracy_by_step, accuracy_curves, gains
from tttlib.plots.adaptation import (  # fmt: skip
    error_by_block,
    error_by_constant,
    importance_by_stage,
    selection_by_size,
)
from tttlib.plots.animation import save_animation, trajectory_animation
from tttlib.plots.comparison import difference_map, error_lines
from tttlib.plots.controls import touch
from tttlib.plots.corruption_map import FAMILIES, corruption_map
from tttlib.plots.diagrams import palm_rule, rotation_network, y_network
from tttlib.plots.growth_curves import growth
from tttlib.plots.latents import latent_scatter, shares, trajectories
from tttlib.plots.method_along import method_along_stream
from tttlib.plots.objects import (  # fmt: skip
    accuracy_by_size,
    class_gains,
    class_scatter,
    forest,
    object_examples,
)
from tttlib.plots.one_image import before_and_after
from tttlib.plots.pictures import corruption_gallery, image_grid, titled_images
from tttlib.plots.saving import save, save_table
from tttlib.plots.standings import standing
from tttlib.plots.stream_curves import along_stream, cost
from tttlib.plots.style import COLUMN, DOMAIN_COLORS, PAGE, PALETTE, pretty, use_style
from tttlib.plots.training_curves import training_curves
from tttlib.plots.tuning import early_stopping_grid, gains_along, step_sizes
from tttlib.plots.variance import FACTOR_COLORS, variance_lines, variance_points

__all__ = [
    "COLUMN",
    "DOMAIN_COLORS",
    "FACTOR_COLORS",
    "FAMILIES",
    "PAGE",
    "PALETTE",
    "accuracy_by_size",
    "accuracy_by_step",
    "accuracy_curves",
    "along_stream",
    "before_and_after",
    "class_gains",
    "class_scatter",
    "corruption_gallery",
    "corruption_map",
    "cost",
    "difference_map",
    "early_stopping_grid",
    "error_by_block",
    "error_by_constant",
    "error_lines",
    "forest",
    "gains",
    "gains_along",
    "growth",
    "image_grid",
    "importance_by_stage",
    "latent_scatter",
    "method_along_stream",
    "object_examples",
    "palm_rule",
    "pretty",
    "rotation_network",
    "save",
    "save_animation",
    "save_table",
    "selection_by_size",
    "shares",
    "standing",
    "step_sizes",
    "titled_images",
    "touch",
    "training_curves",
    "trajectories",
    "trajectory_animation",
    "use_style",
    "variance_lines",
    "variance_points",
    "y_network",
]  # fmt: skip
