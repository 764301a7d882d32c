"""Online test-time training: image i starts where image i-1 ended.

`ttt.run(online=True)` is the way in. Online TTT: Sun et al., ICML 2020, section 2, with the
reconstruction loss of Gandelsman et al., NeurIPS 2022.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import torch
from torch import Tensor

from tttlib.models.mae import MaskedAutoencoder
from tttlib.ttt.anchoring import Brakes, Calm
from tttlib.ttt.loop import Part, Settings, TTTResult, adapt, joined, predictions, tokens_of
from tttlib.ttt.stacked import StackedAutoencoder


def run_online(
    model: MaskedAutoencoder,
    images: Tensor,
    draw: Callable[[range], Tensor],
    names: tuple[str, ...],
    how: Settings,
    *,
    reset_optimizer: bool,
    calm: Calm,
    seed: int,
    heldout: Tensor | None,
    evaluate_every: int,
    stream: Iterable[int],
) -> TTTResult:
    """One of `images` [N,3,H,W] after the other, a stack of one; weights (and momenta) stay.

    draw     gives the patch orders [n,steps,b,L] of n images
    heldout  [M,3,H,W] or None
    """
    device = model.cls_token.device
    net = StackedAutoencoder(model, names, 1)
    net.start(how.rule)
    brakes = Brakes(net, calm, seed)
    before = brakes.fresh_copy()
    parts: list[Part] = []
    heldout_at, heldout_logits = [], []
    try:
        for i in stream:
            if heldout is not None and i % evaluate_every == 0:
                heldout_at.append(i)
                heldout_logits.append(_predict(brakes.predictor, heldout, how))
            if reset_optimizer:
                net.start(how.rule)
            image, orders = images[i : i + 1].to(device), draw(range(i, i + 1))
            if torch.isfinite(image).all():
                parts.append(_one(net, brakes, before, image, orders, how))
            else:
                parts.append(_broken(brakes.predictor, image, orders.shape[1], how))
        if heldout is not None:
            heldout_at.append(len(images))
            heldout_logits.append(_predict(brakes.predictor, heldout, how))
    finally:
        brakes.predictor.write_to_model()
    result = joined(parts, how)
    if heldout is None:
        return result
    return replace(result, heldout_at=heldout_at, heldout_logits=torch.stack(heldout_logits))


def _one(
    net: StackedAutoencoder,
    brakes: Brakes,
    before: list[dict[str, Tensor]],
    image: Tensor,
    orders: Tensor,
    how: Settings,
) -> Part:
    """The steps on one image [1,3,H,W]; a failure leaves weights as they were, or the source's."""

    def restore() -> None:
        brakes.set_weights(before)

    def steps() -> Part:
        brakes.copy_of_weights(into=before)
        after, predictor = brakes.after_update, brakes.predictor
        return adapt(net, image, orders, how, restore, predictor=predictor, after_update=after)

    part = steps()
    if not part[3]:
        return part
    if torch.isfinite(part[0][0, 0]):  # its own updates made the weights bad
        restore()
        net.start(how.rule)
        return part
    brakes.reset()  # the weights it met were already beyond use
    net.start(how.rule)
    again = steps()
    if again[3]:
        restore()
        net.start(how.rule)
    return (*again[:3], torch.ones(1, dtype=torch.bool))


def _broken(net: StackedAutoencoder, image: Tensor, steps: int, how: Settings) -> Part:
    """What an image [1,3,H,W] with non-finite pixels gets: no update."""
    logits, latents = predictions(net.model, [tokens_of(net, image, how)] * len(how.wanted), how)
    return torch.full((1, steps), float("nan")), logits, latents, torch.ones(1, dtype=torch.bool)


@torch.no_grad()
def _predict(
    net: StackedAutoencoder, images: Tensor, how: Settings, batch_size: int = 250
) -> Tensor:
    """Logits [M,C] of a stack of one as it is."""
    net.write_to_model()
    device = net.model.cls_token.device
    with how.precision(device):
        parts = [net.model.classify(x.to(device)).float().cpu() for x in images.split(batch_size)]
    return torch.cat(parts)
