"""CLS tokens at every depth of the encoder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from tttlib.data import ImageSet
from tttlib.evaluate.unit_rows import latent_rows, stream_of
from tttlib.models import MaskedAutoencoder
from tttlib.runtime.devices import best_device

LAST = "norm"
"""The layer that the head reads: after all blocks and the last norm."""


def layer_names(model: MaskedAutoencoder, layers: Sequence[str] = ()) -> tuple[str, ...]:
    """The names of `layers` in the order of depth; all of them when none is named.

    "block 1" … "block <depth>" are the tokens after a block, "norm" after the last norm. Raises
    ValueError for another name.
    """
    known = (*(f"block {i + 1}" for i in range(len(model.blocks))), LAST)
    for name in layers:
        if name not in known:
            raise ValueError(f"unknown layer {name!r}; this model has {', '.join(known)}")
    return tuple(name for name in known if name in layers) if layers else known


@torch.no_grad()
def layer_latents(
    model: MaskedAutoencoder,
    dataset: ImageSet,
    domains: Sequence[str],
    *,
    severity: float = 5,
    seed: int = 0,
    layers: Sequence[str] = (),
    batch_size: int = 250,
) -> tuple[np.ndarray, pd.DataFrame]:
    """CLS tokens [N,K,D] after each of K `layers` (see `layer_names`), one pass an image; rows [N].

    Rows: domain, id, label, class and the dataset's clusters.
    """
    device, names = best_device(), layer_names(model, layers)
    model = model.to(device).eval()
    modules: dict[str, nn.Module] = {f"block {i + 1}": b for i, b in enumerate(model.blocks)}
    modules[LAST] = model.norm
    found, rows = [], []
    with _listening([modules[name] for name in names]) as heard:
        for batch in stream_of(dataset, domains, severity, seed, batch_size):
            heard.clear()
            model.tokens(batch.images.to(device))
            found.append(torch.stack(heard, 1).float().cpu().numpy())
            rows.append(clustered_rows(dataset, latent_rows(dataset, batch), batch.index))
    return np.concatenate(found), pd.concat(rows, ignore_index=True)


def clustered_rows(dataset: ImageSet, rows: pd.DataFrame, index: Tensor) -> pd.DataFrame:
    """`rows` of the images at `index` [N], with what makes images dependent as columns."""
    return rows.assign(**{k: v[index].numpy() for k, v in dataset.clusters.items()})


@contextmanager
def _listening(modules: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """The CLS tokens [B,D] that the modules give out, in the order of their calls."""
    heard: list[Tensor] = []

    def hear(module: nn.Module, arguments: object, output: Tensor) -> None:
        heard.append(output[:, 0])

    hooks = [module.register_forward_hook(hear) for module in modules]
    try:
        yield heard
    finally:
        for hook in hooks:
            hook.remove()
