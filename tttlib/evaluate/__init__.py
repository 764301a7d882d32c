"""The only loops over a stream: what a model predicts while it adapts, as result rows."""

from tttlib.evaluate.alignment import gradient_alignment
from tttlib.evaluate.latents import latent_trajectories, latents
from tttlib.evaluate.pictures import reconstructions
from tttlib.evaluate.rows import describe
from tttlib.evaluate.standard import predict, test_time_training

__all__ = [
    "describe",
    "gradient_alignment",
    "latent_trajectories",
    "latents",
    "predict",
    "reconstructions",
    "test_time_training",
]
