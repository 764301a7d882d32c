"""CLS latents under shift and along test-time training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from tttlib import ttt
from tttlib.data import ImageSet
from tttlib.evaluate.unit_rows import latent_rows, stream_of
from tttlib.models import MaskedAutoencoder
from tttlib.runtime.devices import best_device


@torch.no_grad()
def latents(
    model: MaskedAutoencoder,
    dataset: ImageSet,
    domains: Sequence[str],
    *,
    severity: float = 5,
    seed: int = 0,
    batch_size: int = 250,
) -> tuple[np.ndarray, pd.DataFrame]:
    """CLS latents [N,D] of every image under every domain, and their rows (domain, id, label)."""
    device = best_device()
    model = model.to(device).eval()
    found, rows = [], []
    for batch in stream_of(dataset, domains, severity, seed, batch_size):
        found.append(model.encode(batch.images.to(device)).float().cpu().numpy())
        rows.append(latent_rows(dataset, batch))
    return np.concatenate(found), pd.concat(rows, ignore_index=True)


def latent_trajectories(
    model: MaskedAutoencoder,
    dataset: ImageSet,
    domains: Sequence[str],
    *,
    severity: float = 5,
    seed: int = 0,
    **settings: Any,
) -> tuple[np.ndarray, pd.DataFrame]:
    """CLS latents [N*(steps+1),D] during standard TTT, and their rows (domain, id, label, step)."""
    found, rows = [], []
    model = model.to(best_device())
    for batch in stream_of(dataset, domains, severity, seed, len(dataset)):
        ids = dataset.ids[batch.index]
        result = ttt.run(model, batch.images, ids=ids, seed=seed, record_latents=True, **settings)
        assert result.latents is not None
        n, steps, _ = result.latents.shape
        found.append(result.latents.flatten(0, 1).numpy())
        table = latent_rows(dataset, batch)
        rows.append(
            table.loc[table.index.repeat(steps)].assign(step=np.tile(result.evaluated_at, n))
        )
    return np.concatenate(found), pd.concat(rows, ignore_index=True)
