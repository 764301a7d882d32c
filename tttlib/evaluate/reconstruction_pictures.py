"""Pictures of reconstructions before and after test-time training."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tttlib import ttt
from tttlib.data import ImageSet
from tttlib.evaluate.matching_ttt import check_autoencoder
from tttlib.evaluate.unit_rows import stream_of
from tttlib.models import MaskedAutoencoder
from tttlib.runtime.devices import best_device


def reconstructions(
    model: MaskedAutoencoder,
    dataset: ImageSet,
    domains: Sequence[str],
    *,
    severity: float = 5,
    seed: int = 0,
    **settings: Any,
) -> dict[str, Tensor]:
    """Reconstruct one image per domain before and after standard TTT, under the same mask.

    Parameters
    ----------
    model
        The autoencoder.
    dataset, domains
        Image i of the dataset is shown under domain i.
    severity, seed
        Severity and seed of the corruptions; the seed also draws the masks.
    **settings
        The settings of `ttt.run`.

    Returns
    -------
    dict
        "input", "masked", "before" and "after", each [len(domains),3,H,W] in [0,1].

    Raises
    ------
    ValueError
        If the model is no masked autoencoder.
    """
    check_autoencoder(model)
    chosen = dataset.subset(range(len(domains)))
    stream = stream_of(chosen, domains, severity, seed, len(chosen))
    images = torch.stack([batch.images[i] for i, batch in enumerate(stream)])
    device = best_device()
    model, images = model.to(device), images.to(device)
    order = model.random_order(len(images), torch.Generator().manual_seed(seed), device)
    before, mask = model.reconstruct(images, order=order)
    after = torch.empty_like(before)
    for i, image in enumerate(images.split(1)):
        adapted = copy.deepcopy(model)
        ttt.run(adapted, image, online=True, ids=chosen.ids[i : i + 1], seed=seed, **settings)
        after[i] = adapted.reconstruct(image, order=order[i : i + 1])[0][0]
    masked = images * (1 - mask) + 0.5 * mask
    shown = {"input": images, "masked": masked, "before": before, "after": after}
    return {title: pictures.cpu() for title, pictures in shown.items()}
