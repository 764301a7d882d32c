"""The steps of test-time training on a stack of images, and the standard loop over stacks.

`ttt.run` is the way in. It checks the settings and chooses the loop; the other one is in `online`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from tqdm.auto import tqdm

from tttlib.models.mae import MaskedAutoencoder
from tttlib.ttt.batching import StackSize, masks_at_once
from tttlib.ttt.entrance import to_network
from tttlib.ttt.result import HeldOut, TTTResult, join
from tttlib.ttt.settings import MaskOrders, Settings, trained_parameters
from tttlib.ttt.sgd import StackedOptimizer
from tttlib.ttt.stacked import StackedAutoencoder

Part = tuple[Tensor, ...]
"""Losses [S,steps], logits [S,K,C], failed [S] and, if asked for, latents [S,K,D] of S images."""


def run_standard(
    model: MaskedAutoencoder, images: Tensor, masks: MaskOrders, settings: Settings
) -> TTTResult:
    """Adapt a stack of `images` [N,3,H,W] at a time, each from the source weights."""
    size = StackSize.of(model, settings, len(images))
    names = trained_parameters(model, settings.finetune)
    parts: list[Part] = []
    start, net, optimizer = 0, None, None
    with tqdm(total=len(images), desc="TTT", unit="image", disable=not settings.progress) as bar:
        while start < len(images):
            n = min(size.next(), len(images) - start)
            index = slice(start, start + n)
            try:
                with size.measuring(n):
                    if net is None or optimizer is None or net.replicas != n:
                        net = optimizer = None  # frees its memory first
                        net = StackedAutoencoder(model, names, n)
                        optimizer = StackedOptimizer(net, settings.rule)
                    net.reset()
                    optimizer.restart()
                    chunk = to_network(images[index], model)
                    parts.append(adapt(net, optimizer, chunk, masks[index], settings, net.reset))
            except RuntimeError as error:
                net = optimizer = None
                size.shrink(n, error)  # raises what is not for want of memory
                continue
            start += n
            bar.update(n)
    return join(parts, settings.times, HeldOut())


def adapt(
    net: StackedAutoencoder,
    optimizer: StackedOptimizer,
    images: Tensor,
    orders: Tensor,
    settings: Settings,
    undo: Callable[[], None],
    *,
    predictor: StackedAutoencoder | None = None,
    after_update: Callable[[], None] = lambda: None,
) -> Part:
    """Take all steps on S images; `net` ends adapted.

    Parameters
    ----------
    net, optimizer
        The stack of S replicas and what updates it.
    images
        One image per replica, [S,3,H,W].
    orders
        Patch orders [S,steps,b,L].
    settings
        How to adapt, and when to predict.
    undo
        Gives the weights back as they were before, to predict what failed images keep.
    predictor
        Predicts in the place of `net`.
    after_update
        What else happens to the weights after every update.
    """
    predictor = predictor or net
    model, steps = net.model, orders.shape[1]
    target = model.target(images)  # [S,L,p*p*3], the same for every mask and step
    orders = orders.to(images.device)
    losses, tokens = [], []
    for step in range(steps + 1):
        if step in settings.times:
            tokens.append(tokens_of(predictor, images, settings))  # [S,1+L,D]
        if step < steps:
            losses.append(_update(net, optimizer, images, target, orders[:, step], settings))
            after_update()
    logits, latents = predictions(model, tokens, settings)

    def unadapted() -> tuple[Tensor, Tensor]:
        undo()
        return predictions(model, [tokens_of(predictor, images, settings)], settings)

    return _void_failures(torch.stack(losses, 1).cpu(), logits, latents, settings, unadapted)


def _update(
    net: StackedAutoencoder,
    optimizer: StackedOptimizer,
    images: Tensor,
    target: Tensor,
    orders: Tensor,
    settings: Settings,
) -> Tensor:
    """Take one step under the masks `orders` [S,b,L]; return the losses before it, [S]."""
    visible = net.model.num_visible(settings.mask_ratio)
    groups = orders.split(masks_at_once(net.model, orders.shape[1], visible), 1)
    total = images.new_zeros(len(images))
    for i, group in enumerate(groups):
        with settings.precision(images.device):
            loss = net.losses(images, target, group, visible)  # [S], mean over the masks
        if len(groups) > 1:
            loss = loss * (group.shape[1] / orders.shape[1])
        optimizer.descend(loss, first=i == 0, last=i + 1 == len(groups))
        total += loss.detach()
    return total


@torch.no_grad()
def tokens_of(net: StackedAutoencoder, images: Tensor, settings: Settings) -> Tensor:
    """Return tokens [S,1+L,D] of images [S,3,H,W], in the precision of the run."""
    with settings.precision(images.device):
        return net.tokens(images)


@torch.no_grad()
def predictions(
    model: MaskedAutoencoder, tokens: list[Tensor], settings: Settings
) -> tuple[Tensor, Tensor]:
    """Return logits [S,K,C] and latents [S,K,D] on the CPU, given K tensors of tokens [S,1+L,D].

    The head takes the K predictions of one image together, so that S has no part in the rounding.
    """
    by_image = torch.stack(tokens, 1)  # [S,K,1+L,D]
    with settings.precision(by_image.device):
        logits = torch.stack([model.classify_tokens(image).float() for image in by_image])
    return logits.cpu(), by_image[:, :, 0].float().cpu()


def _void_failures(
    losses: Tensor,
    logits: Tensor,
    latents: Tensor,
    settings: Settings,
    unadapted: Callable[[], tuple[Tensor, Tensor]],
) -> Part:
    """Count an image as not adapted from its first non-finite value on."""
    at = torch.tensor(settings.times)
    bad = torch.zeros(len(losses), losses.shape[1] + 1, dtype=torch.bool)  # [S,steps+1]
    bad[:, 1:] = ~torch.isfinite(losses)
    bad[:, at] |= ~torch.isfinite(logits).all(-1)
    bad = bad.cummax(1).values
    if bad.any():
        first = (logits[:, :1], latents[:, :1]) if at[0] == 0 else unadapted()
        logits = torch.where(bad[:, at, None], first[0], logits)
        latents = torch.where(bad[:, at, None], first[1], latents)
        losses = losses.masked_fill(bad[:, 1:], float("nan"))
    part = (losses, logits, bad.any(1))
    return (*part, latents) if settings.record_latents else part
