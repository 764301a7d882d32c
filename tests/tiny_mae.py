"""The small masked autoencoder that the tests share."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tttlib.models import MaskedAutoencoder

SIZES: dict[str, Any] = {
    "img_size": 16,
    "patch_size": 4,
    "embed_dim": 16,
    "depth": 2,
    "num_heads": 2,
    "decoder_embed_dim": 8,
    "decoder_depth": 1,
    "decoder_num_heads": 2,
    "num_classes": 3,
    "classifier_embed_dim": 12,
    "classifier_depth": 1,
    "classifier_num_heads": 3,
}


def tiny_mae(
    seed: int = 0, dtype: torch.dtype = torch.float64, **overrides: Any
) -> MaskedAutoencoder:
    """The same weights for the same seed, in eval mode; `overrides` replace single sizes."""
    torch.manual_seed(seed)
    return MaskedAutoencoder(**{**SIZES, **overrides}).to(dtype).eval()


def tiny_images(n: int = 5, seed: int = 1) -> Tensor:
    """Noise [n,3,16,16] in [0,1], float64, the first images alike for every `n`."""
    random = torch.Generator().manual_seed(seed)
    return torch.rand(n, 3, 16, 16, generator=random).double()
