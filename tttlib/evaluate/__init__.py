"""The only loops over a stream: what a model predicts while it adapts, as result rows."""

from tttlib.evaluate.alignment import gradient_alignment
from tttlib.evaluate.hidden import hidden_by_masks, patch_shares
from tttlib.evaluate.latents import latent_trajectories, latents
from tttlib.evaluate.objects import (
    annotations_of,
    coverage,
    object_geometry,
    object_ratios,
    with_objects,
)
from tttlib.evaluate.pairs import before_after, examples
from tttlib.evaluate.pictures import reconstructions
from tttlib.evaluate.rows import describe
from tttlib.evaluate.standard import predict, test_time_training

__all__ = [
    "annotations_of",
    "before_after",
    "coverage",
    "describe",
    "examples",
    "gradient_alignment",
    "hidden_by_masks",
    "latent_trajectories",
    "latents",
    "object_geometry",
    "object_ratios",
    "patch_shares",
    "predict",
    "reconstructions",
    "test_time_training",
    "with_objects",
]
