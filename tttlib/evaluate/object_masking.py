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
from tttlib.models import MaskedAutoencoder


def patch_shares(boxes: Tensor, image_size: int, patch_size: int) -> Tensor:
    """Share of each box's area in each patch, [N,4] -> [N,L], rows sum to 1 (boxes in the image).

    Patches are numbered row by row, as the network does. A box without area has shares NaN.
    """
    edges = torch.arange(0, image_size, patch_size, dtype=torch.float64)  # [g]
    low, high = boxes.double()[:, :2], boxes.double()[:, 2:]
    reach = torch.minimum(high[..., None], edges + patch_size) - torch.maximum(
        low[..., None], edges
    )
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
    """How much of the object the masks of TTT hide: one row per image, in the set's order.

    The masks are those that `ttt.run` draws for (seed, id); other settings of it are ignored.
    hidden           mean over all masks and steps of the share of the box's area that is hidden
    hidden_expected  its expectation over masks, the share of patches that are hidden
    unseen           share of the masks that hide every patch the object touches
    unseen_expected  its expectation: of L patches v are visible, k touch the object:
                     C(L-k, v) / C(L, v)
    touched          k, the number of patches the box touches
    Missing where there is no box. Raises ValueError for a set without boxes.
    """
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
