"""Test-time training with a masked autoencoder (`run`) and with rotations (`rotation.run`).

Gandelsman et al., "Test-Time Training with Masked Autoencoders", NeurIPS 2022; Sun et al.,
"Test-Time Training with Self-Supervision for Generalization under Distribution Shifts", ICML 2020.
The obvious implementation of `run`, one image at a time, is `tttlib.reference.ttt`: read it first.
"""

from tttlib.ttt.reconstruction import run, run_streams, scaled_lr
from tttlib.ttt.result import TTTResult
from tttlib.ttt.settings import FINETUNE, OPTIMIZERS, mask_orders, trained_parameters

__all__ = [
    "FINETUNE",
    "OPTIMIZERS",
    "TTTResult",
    "mask_orders",
    "run",
    "run_streams",
    "scaled_lr",
    "trained_parameters",
]
