"""CLS latents of the encoder: by layer, under shift and along test-time training."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from tttlib import ttt
from tttlib.data import ImageSet
from tttlib.evaluate.matching_ttt import check_autoencoder
from tttlib.evaluate.unit_rows import latent_rows, stream_of
from tttlib.models import MaskedAutoencoder
from tttlib.runtime.devices import best_device
from tttlib.ttt.batching import images_at_once

LAST = "norm"
"""The layer that the head reads: after all blocks and the last norm."""


def layer_names(model: MaskedAutoencoder, layers: Sequence[str] = ()) -> tuple[str, ...]:
    """Return `layers` in the order of depth, or all layers of the model if none is named.

    "block 1" … "block <depth>" are the tokens after a block, "norm" those after the last norm.

    Raises
    ------
    ValueError
        If a layer is unknown, or the model no masked autoencoder.
    """
    check_autoencoder(model)
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
    batch_size: int | None = None,
) -> tuple[np.ndarray, pd.DataFrame]:
    """Return the CLS tokens after some layers, for every image under every domain.

    Parameters
    ----------
    model
        The encoder. One forward pass per image gives all layers.
    dataset
        The clean images.
    domains
        Corruptions or "clean".
    severity, seed
        Severity and seed of the corruptions.
    layers
        Names of layers, all by default; see `layer_names`.
    batch_size
        The number of images in a forward pass; None chooses a fast one.

    Returns
    -------
    tokens
        float32 [N,K,D] for K layers.
    rows
        N rows with domain, id, label, class and the clusters of the dataset.

    Raises
    ------
    ValueError
        If a layer is unknown, or the model no masked autoencoder.
    """
    device, names = best_device(), layer_names(model, layers)
    model = model.to(device).eval()
    modules: dict[str, nn.Module] = {f"block {i + 1}": b for i, b in enumerate(model.blocks)}
    modules[LAST] = model.norm
    tokens, rows = [], []
    with _recorded([modules[name] for name in names]) as outputs:
        size = batch_size or images_at_once(device)
        for batch in stream_of(dataset, domains, severity, seed, size):
            outputs.clear()
            model.tokens(batch.images.to(device))
            tokens.append(torch.stack(outputs, 1).float().cpu().numpy())
            rows.append(latent_rows(dataset, batch))
    return np.concatenate(tokens), pd.concat(rows, ignore_index=True)


@contextmanager
def _recorded(modules: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """Yield a list that receives the CLS tokens [B,D] of the modules, in the order of calls."""
    outputs: list[Tensor] = []

    def record(module: nn.Module, arguments: object, output: Tensor) -> None:
        outputs.append(output[:, 0])

    hooks = [module.register_forward_hook(record) for module in modules]
    try:
        yield outputs
    finally:
        for hook in hooks:
            hook.remove()


def latents(
    model: MaskedAutoencoder,
    dataset: ImageSet,
    domains: Sequence[str],
    *,
    severity: float = 5,
    seed: int = 0,
    batch_size: int | None = None,
) -> tuple[np.ndarray, pd.DataFrame]:
    """Return the CLS latents [N,D] after the last norm, and their rows, as `layer_latents` does."""
    tokens, rows = layer_latents(
        model, dataset, domains,
        severity=severity, seed=seed, layers=[LAST], batch_size=batch_size,
    )  # fmt: skip
    return tokens[:, 0], rows


def latent_trajectories(
    model: MaskedAutoencoder,
    dataset: ImageSet,
    domains: Sequence[str],
    *,
    severity: float = 5,
    seed: int = 0,
    **settings: Any,
) -> tuple[np.ndarray, pd.DataFrame]:
    """Return the CLS latents before and after every step of standard TTT on each image.

    Parameters
    ----------
    model, dataset, domains, severity, seed
        As in `layer_latents`.
    **settings
        The settings of `ttt.run`.

    Returns
    -------
    latents
        float32 [N*(steps+1),D], image after image.
    rows
        Their domain, id, label, class, clusters and step.
    """
    points, rows = [], []
    model = model.to(best_device())
    for batch in stream_of(dataset, domains, severity, seed, len(dataset)):
        ids = dataset.ids[batch.index]
        result = ttt.run(model, batch.images, ids=ids, seed=seed, record_latents=True, **settings)
        assert result.latents is not None
        n, steps, _ = result.latents.shape
        points.append(result.latents.flatten(0, 1).numpy())
        table = latent_rows(dataset, batch)
        table = table.loc[table.index.repeat(steps)]
        rows.append(table.assign(step=np.tile(result.evaluated_at, n)))
    return np.concatenate(points), pd.concat(rows, ignore_index=True)


def adapted_latents(
    model: MaskedAutoencoder,
    dataset: ImageSet,
    domains: Sequence[str],
    *,
    online: bool = False,
    severity: float = 5,
    seed: int = 0,
    **settings: Any,
) -> tuple[dict[str, np.ndarray], pd.DataFrame]:
    """Return the CLS latents of every image in every state of the model.

    Online, every domain starts from the source and shows its images in one random order, the same
    for all domains. The model is not changed.

    Parameters
    ----------
    online
        Whether the weights go on from image to image.
    model, dataset, domains, severity, seed
        As in `layer_latents`.
    **settings
        The settings of `ttt.run`.

    Returns
    -------
    latents
        float32 [N,D] by state. "before" is the model as it is. "after" is the model after the last
        step on this image alone, or online after that step and all images before it. "end of
        stream", online only, is the model after the last image of the domain.
    rows
        N rows with domain, id, label, class and clusters.

    Raises
    ------
    ValueError
        If the model is no masked autoencoder.
    """
    check_autoencoder(model)
    model = model.to(best_device())
    arrival = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(seed))
    order = arrival if online else torch.arange(len(dataset))
    times = [settings["steps"]] if online else [0, settings["steps"]]
    parts: dict[str, list[np.ndarray]] = {}
    rows = []
    for batch in stream_of(dataset, domains, severity, seed, len(dataset)):
        net = copy.deepcopy(model) if online else model
        result = ttt.run(
            net, batch.images[order], ids=dataset.ids[order], seed=seed, online=online,
            record_latents=True, evaluate_at=times, **settings,
        )  # fmt: skip
        assert result.latents is not None
        states = {"before": result.latents[:, 0], "after": result.latents[:, -1]}
        if online:
            after = states["after"][arrival.argsort()]
            states = {"before": _encoded(model, batch.images), "after": after}
            states["end of stream"] = _encoded(net, batch.images)
        for state, points in states.items():
            parts.setdefault(state, []).append(points.numpy())
        rows.append(latent_rows(dataset, batch))
    joined = {state: np.concatenate(points) for state, points in parts.items()}
    return joined, pd.concat(rows, ignore_index=True)


@torch.no_grad()
def _encoded(model: MaskedAutoencoder, images: Tensor) -> Tensor:
    device = model.cls_token.device
    model.eval()
    return torch.cat(
        [model.encode(x.to(device)).float().cpu() for x in images.split(images_at_once(device))]
    )
