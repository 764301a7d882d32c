"""The only loops over streams: what a model predicts while it adapts, as result rows."""

from tttlib.evaluate.adaptation_cost import forward_equivalents
from tttlib.evaluate.alignment import gradient_alignment
from tttlib.evaluate.before_and_after import OUTCOMES, before_after, examples, objects_of
from tttlib.evaluate.calibration import calibrate
from tttlib.evaluate.cls_latents import (
    adapted_latents,
    latent_trajectories,
    latents,
    layer_latents,
    layer_names,
)
from tttlib.evaluate.continual_adaptation import Adaptation, adaptation
from tttlib.evaluate.image_selection import of_each_class
from tttlib.evaluate.latent_shift import (
    latent_map,
    latent_paths,
    latent_separability,
    latent_variance,
    latent_variance_adapted,
    latent_variance_without,
)
from tttlib.evaluate.object_boxes import (
    annotations_of,
    coverage,
    object_geometry,
    object_ratios,
    with_objects,
)
from tttlib.evaluate.object_masking import hidden_by_masks, patch_shares
from tttlib.evaluate.online_ttt import online, online_together
from tttlib.evaluate.pace import constant_speed
from tttlib.evaluate.reconstruction_pictures import reconstructions
from tttlib.evaluate.standard_ttt import predict, source, standard, test_time_training
from tttlib.evaluate.step_by_step import adaptation_steps
from tttlib.evaluate.step_size import choose_step
from tttlib.evaluate.unit_rows import describe
from tttlib.runtime import memory

__all__ = [
    "OUTCOMES",
    "Adaptation",
    "adaptation",
    "adaptation_steps",
    "adapted_latents",
    "annotations_of",
    "before_after",
    "calibrate",
    "choose_step",
    "constant_speed",
    "coverage",
    "describe",
    "examples",
    "forward_equivalents",
    "gradient_alignment",
    "hidden_by_masks",
    "latent_map",
    "latent_paths",
    "latent_separability",
    "latent_trajectories",
    "latent_variance",
    "latent_variance_adapted",
    "latent_variance_without",
    "latents",
    "layer_latents",
    "layer_names",
    "object_geometry",
    "object_ratios",
    "objects_of",
    "of_each_class",
    "online",
    "online_together",
    "patch_shares",
    "predict",
    "reconstructions",
    "source",
    "standard",
    "test_time_training",
    "with_objects",
]

memory.keep_freed()
