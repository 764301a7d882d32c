"""How much of the object the masks of test-time training hide."""

from __future__ import annotations

from math import comb
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from tttlib import ttt
from tttlib.data import ImageSet
from tttlib.evaluate.matching_ttt import check_autoencoder
from tttlib.models import MaskedAutoencoder


def patch_shares(boxes: Tensor, image_size: int, patch_size: int) -> Tensor:
    """Return the share of the area of each box [N,4] that lies in each patch, [N,L].

    Patches are numbered row by row, as in the network. The shares of a box in the image sum to 1;
    those of a box without area are NaN.
    """
    edges = torch.arange(0, image_size, patch_size, dtype=torch.float64)  # [g]
    low, high = boxes.double().split(2, dim=1)  # [N,2] each
    right, left = high[..., None].minimum(edges + patch_size), low[..., None].maximum(edges)
    reach = right - left  # [N,2,g]
    x, y = reach.clamp(min=0).unbind(1)  # [N,g] each
    area = (high - low).prod(-1)
    return (y[:, :, None] * x[:, None, :]).flatten(1) / area[:, None]


def hidden_by_masks(
    model: MaskedAutoencoder,
    dataset: ImageSet,
    *,
    steps: int,
    batch_size: int,
    seed: int = 0,
    mask_ratio: float = 0.75,
    **_: Any,
) -> pd.DataFrame:
    """Return how much of the object the masks of TTT hide.

    The masks are those that `ttt.run` draws for the seed and the id of each image.

    Parameters
    ----------
    model
        The autoencoder.
    dataset
        Images with boxes.
    steps, batch_size, seed, mask_ratio
        As in `ttt.run`; its other settings are taken and have no effect.

    Returns
    -------
    DataFrame
        One row per image in the order of the dataset, with id, touched (the number of patches that
        the box touches) and, missing if there is no box,

        hidden, hidden_expected
            the share of the area of the box that is hidden, averaged over all masks and steps, and
            its expectation, the share of patches that are hidden;
        unseen, unseen_expected
            the share of the masks that hide every patch of the object, and its expectation
            C(L-k, v) / C(L, v) for v visible of L patches, k of which touch the object.

    Raises
    ------
    ValueError
        If the model is no masked autoencoder, or the dataset has no boxes.
    """
    check_autoencoder(model)
    if dataset.boxes is None:
        raise ValueError(f"{dataset.name!r} has no boxes; take a set that has")
    patches = model.num_patches
    visible = model.num_visible(mask_ratio)
    shares = patch_shares(dataset.boxes, model.img_size, model.patch_size)  # [N,L]
    rows = []
    for image, share in zip(dataset.ids.tolist(), shares, strict=True):
        orders = ttt.mask_orders(model, steps, batch_size, seed, image)  # [steps,b,L]
        seen = share[orders[..., :visible]].sum(-1)  # [steps,b]
        k = int((share > 0).sum())
        rows.append(
            {
                "id": image,
                "hidden": float(1 - seen.mean()),
                "hidden_expected": 1 - visible / patches,
                "unseen": float((seen <= 0).double().mean()),
                "unseen_expected": comb(patches - k, visible) / comb(patches, visible),
                "touched": k,
            }
        )
    table = pd.DataFrame(rows)
    none = torch.isnan(shares).any(-1).numpy()
    table.loc[none, ["hidden", "unseen", "unseen_expected"]] = np.nan
    return table
