"""The only loops over a stream: what a model predicts while it adapts, as result rows."""

from tttlib.evaluate.alignment import gradient_alignment
from tttlib.evaluate.continual_adaptation import Adaptation, adaptation
from tttlib.evaluate.latents import latent_trajectories, latents
from tttlib.evaluate.layers import layer_latents, layer_names
from tttlib.evaluate.online_ttt import online
from tttlib.evaluate.pictures import reconstructions
from tttlib.evaluate.rows import describe
from tttlib.evaluate.selection import of_each_class
from tttlib.evaluate.shift import (
    adapted_latents,
    latent_map,
    latent_paths,
    latent_separability,
    latent_variance,
    latent_variance_adapted,
)
from tttlib.evaluate.standard_ttt import predict, source, standard, test_time_training
from tttlib.evaluate.steps import adaptation_steps

__all__ = [
    "Adaptation",
    "adaptation",
    "adaptation_steps",
    "adapted_latents",
    "describe",
    "gradient_alignment",
    "latent_map",
    "latent_paths",
    "latent_separability",
    "latent_trajectories",
    "latent_variance",
    "latent_variance_adapted",
    "latents",
    "layer_latents",
    "layer_names",
    "of_each_class",
    "online",
    "predict",
    "reconstructions",
    "source",
    "standard",
    "test_time_training",
]
