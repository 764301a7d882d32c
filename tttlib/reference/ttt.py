"""Test-time training the obvious way, one image at a time: the reference of `tttlib.ttt.run`.

It is written after the released program. The tests hold the fast version to it, and the benchmark
times both.

Source: Gandelsman et al., Test-Time Training with Masked Autoencoders, NeurIPS 2022, section 3.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from tttlib.models.mae import MaskedAutoencoder
from tttlib.ttt.sgd import Rule


def run(
    model: MaskedAutoencoder,
    images: Tensor,
    orders: Tensor,
    names: tuple[str, ...],
    rule: Rule,
    mask_ratio: float = 0.75,
) -> tuple[Tensor, Tensor]:
    """Adapt a copy of the model to each image in turn, and predict before and after every step.

    Parameters
    ----------
    model
        The source model, which is left as it is.
    images
        [N,3,H,W] in [0,1].
    orders
        [N,steps,B,L] patch orders, which fix the masks; see `MaskedAutoencoder.random_order`.
    names
        The names of the trained parameters.
    rule
        The update rule.
    mask_ratio
        The share of the patches that is hidden.

    Returns
    -------
    losses
        [N,steps], each before its update.
    logits
        [N,steps+1,C], the first before any update.
    """
    work = copy.deepcopy(model).eval()
    for name, parameter in work.named_parameters():
        parameter.requires_grad_(name in names)
    losses: list[list[float]] = []
    logits: list[list[Tensor]] = []
    for image, image_orders in zip(images, orders.to(images.device), strict=True):
        # start from the source weights, with a new optimiser
        work.load_state_dict(model.state_dict())
        optimizer = rule.make([p for p in work.parameters() if p.requires_grad])
        # one image makes the whole batch, under B masks
        batch = image.repeat(image_orders.shape[1], 1, 1, 1)  # [B,3,H,W]
        logits.append([_predict(work, image)])
        losses.append([])
        for order in image_orders:
            # reconstruct the masked patches and descend
            loss = work.reconstruction_loss(batch, mask_ratio=mask_ratio, order=order)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses[-1].append(loss.item())
            # predict on the whole image
            logits[-1].append(_predict(work, image))
    answers = torch.stack([torch.stack(steps) for steps in logits])
    return torch.tensor(losses, dtype=images.dtype), answers


@torch.no_grad()
def _predict(model: MaskedAutoencoder, image: Tensor) -> Tensor:
    return model.classify(image[None])[0].float().cpu()
