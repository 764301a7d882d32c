"""One image through test-time training, step by step."""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
from torch import Tensor

from tttlib import ttt
from tttlib.evaluate.matching_ttt import check_autoencoder
from tttlib.models import MaskedAutoencoder
from tttlib.runtime.devices import best_device
from tttlib.runtime.images import check_images
from tttlib.ttt.sgd import Rule, StackedOptimizer
from tttlib.ttt.stacked import StackedAutoencoder


class Steps(NamedTuple):
    """The course of TTT on one image, on the CPU; index k is after k updates.

    Attributes
    ----------
    masked
        The masked input, [3,H,W] in [0,1].
    reconstructions
        [K,3,H,W] in [0,1], under one mask for all steps.
    probabilities
        [K,C].
    losses
        [K], the reconstruction loss under that mask.
    """

    masked: Tensor
    reconstructions: Tensor
    probabilities: Tensor
    losses: Tensor


def adaptation_steps(
    model: MaskedAutoencoder,
    image: Tensor,
    *,
    steps: int,
    batch_size: int,
    lr: float,
    image_id: int = 0,
    seed: int = 0,
    mask_ratio: float = 0.75,
    optimizer: str = "sgd",
    momentum: float = 0.9,
    finetune: str = "encoder",
) -> Steps:
    """Run standard TTT on one image and show it after each of 0 … `steps` updates.

    Masks, updates and predictions are those of `ttt.run` with these settings and `ids=[image_id]`.
    The mask of the reconstructions is drawn with `seed` alone. The model is not changed.

    Parameters
    ----------
    model
        The autoencoder.
    image
        [3,H,W] in [0,1] or uint8.
    steps, batch_size, lr, seed, mask_ratio, optimizer, momentum, finetune
        As in `ttt.run`.
    image_id
        The id of the image, which seeds its masks.

    Raises
    ------
    ValueError
        If the model is no masked autoencoder, or the image no RGB image in [0,1] (see
        `tttlib.runtime.images.check_images`).
    """
    check_autoencoder(model)
    check_images(image[None], name="image[None]")
    device = best_device()
    net = copy.deepcopy(model).to(device).eval()
    images = image[None].to(device)
    images = images.float() / 255 if images.dtype == torch.uint8 else images.float()
    orders = ttt.mask_orders(net, steps, batch_size, seed, image_id)[None].to(device)
    shown = net.random_order(1, torch.Generator().manual_seed(seed), device)  # [1,L]
    stack = StackedAutoencoder(net, ttt.trained_parameters(net, finetune), 1)
    updates = StackedOptimizer(stack, Rule(optimizer, lr, momentum))
    visible, target = net.num_visible(mask_ratio), net.target(images)
    pictures, probabilities, losses = [], [], []
    for step in range(steps + 1):
        stack.write_to_model()
        with torch.no_grad():
            picture, mask = net.reconstruct(images, mask_ratio=mask_ratio, order=shown)
            pictures.append(picture[0])
            probabilities.append(net.classify(images)[0].softmax(-1))
            losses.append(net.reconstruction_loss(images, mask_ratio=mask_ratio, order=shown))
        if step < steps:
            updates.descend(stack.losses(images, target, orders[:, step], visible))
    masked = images * (1 - mask) + 0.5 * mask
    stacks = (torch.stack(parts) for parts in (pictures, probabilities, losses))
    return Steps(*(value.cpu() for value in (masked[0], *stacks)))
