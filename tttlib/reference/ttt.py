"""Test-time training the obvious way, one image at a time: what `ttt.run` is held against.

Written after the released program: every image starts from a copy of the source's state dict with a
new optimiser; B copies of it are embedded and masked; losses and predictions are read back at every
step. The benchmark times it and the tests take it for the truth.

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
    """Losses [N,steps] and logits [N,steps+1,C] of standard TTT.

    images  [N,3,H,W] in [0,1]
    orders  [N,steps,B,L] patch orders, see `MaskedAutoencoder.random_order`
    names   of the trained parameters
    """
    work = copy.deepcopy(model).eval()
    for name, parameter in work.named_parameters():
        parameter.requires_grad_(name in names)
    losses: list[list[float]] = []
    logits: list[list[Tensor]] = []
    for image, its_orders in zip(images, orders.to(images.device), strict=True):
        work.load_state_dict(model.state_dict())
        optimizer = rule.make([p for p in work.parameters() if p.requires_grad])
        copies = image.repeat(its_orders.shape[1], 1, 1, 1)  # [B,3,H,W]
        logits.append([_predict(work, image)])
        losses.append([])
        for order in its_orders:
            loss = work.reconstruction_loss(copies, mask_ratio=mask_ratio, order=order)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses[-1].append(loss.item())
            logits[-1].append(_predict(work, image))
    return torch.tensor(losses, dtype=images.dtype), torch.stack(
        [torch.stack(one) for one in logits]
    )


@torch.no_grad()
def _predict(model: MaskedAutoencoder, image: Tensor) -> Tensor:
    return model.classify(image[None])[0].float().cpu()
