"""The only loops over a stream: what a model predicts while it adapts, as result rows."""

from tttlib.evaluate.alignment import gradient_alignment
from tttlib.evaluate.continual_adaptation import Adaptation, adaptation
from tttlib.evaluate.latents import latent_trajectories, latents
from tttlib.evaluate.online_ttt import online
from tttlib.evaluate.pictures import reconstructions
from tttlib.evaluate.rows import describe
from tttlib.evaluate.standard_ttt import predict, source, standard, test_time_training

__all__ = [
    "Adaptation",
    "adaptation",
    "describe",
    "gradient_alignment",
    "latent_trajectories",
    "latents",
    "online",
    "predict",
    "reconstructions",
    "source",
    "standard",
    "test_time_training",
]
