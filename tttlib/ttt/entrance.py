"""What test-time training takes: networks, images and ids, checked at the first call."""

from __future__ import annotations

import torch
from torch import Tensor

from tttlib.models.mae import MaskedAutoencoder
from tttlib.models.rotation_net import RotationNet
from tttlib.runtime.images import check_images


def check_inputs(
    model: MaskedAutoencoder | RotationNet,
    images: Tensor,
    ids: Tensor | None,
    heldout: Tensor | None,
) -> Tensor:
    """Check the network and the images [N,3,H,W] and return the ids, 0 … N-1 where none are given.

    Pixels must lie in [0,1] where the network normalises by itself. One whose `mean` and `std` are
    0 and 1 takes images on its own scale. Pixels that are not finite fail their image later.

    Raises
    ------
    ValueError
        For weights in half precision, and images or ids that cannot be used.
    """
    dtype = model.mean.dtype
    half = next((p.dtype for p in model.parameters() if p.dtype.itemsize < 4), None)
    if half is not None:
        raise ValueError(
            f"test-time training updates the weights, which {half} is too coarse for; pass "
            "model.float(), and autocast='bfloat16' where half precision is faster"
        )
    normalises = bool((model.mean != 0).any() or (model.std != torch.ones((), dtype=dtype)).any())
    check_images(images, finite=False, values=normalises)
    if heldout is not None:
        check_images(heldout, name="heldout", finite=False, values=normalises)
    ids = torch.arange(len(images)) if ids is None else torch.as_tensor(ids).cpu()
    if len(ids) != len(images):
        raise ValueError(f"{len(images)} images but {len(ids)} ids")
    return ids


def to_network(images: Tensor, model: MaskedAutoencoder | RotationNet) -> Tensor:
    """Return images, uint8 or floating point, on the network's device in its number format."""
    images, dtype = images.to(model.mean.device), model.mean.dtype
    return images.to(dtype) / 255 if images.dtype == torch.uint8 else images.to(dtype)
