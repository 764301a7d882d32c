"""The steps of test-time training on a stack of images, and the standard loop over stacks.

`ttt.run` is the way in; it checks the settings, draws the masks and chooses the loop (the other one
is in `online.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor
from tqdm.auto import tqdm

from tttlib.models.mae import MaskedAutoencoder
from tttlib.ttt.batching import Size, masks_at_once
from tttlib.ttt.sgd import Rule
from tttlib.ttt.stacked import StackedAutoencoder


@dataclass(frozen=True)
class TTTResult:
    """What test-time training of N images gave; everything float32 (or the model's) on the CPU.

    losses    [N,steps], each before its update; nan after a failure
    logits    [N,K,C] after the updates `evaluated_at`; without that setting K = steps+1, and index
              0 is before any update of that image
    failed    bool [N]: the loss or the logits became non-finite, see `run`
    latents   [N,K,D] CLS latents, or None
    evaluated_at    the K numbers of updates after which predictions were made
    heldout_at      numbers of stream images after which the held-out set was evaluated (online)
    heldout_logits  [len(heldout_at),M,C] or None
    """

    losses: Tensor
    logits: Tensor
    failed: Tensor
    latents: Tensor | None = None
    evaluated_at: tuple[int, ...] = ()
    heldout_at: list[int] = field(default_factory=list)
    heldout_logits: Tensor | None = None

    def accuracy(self, labels: Tensor) -> Tensor:
        """Share of right answers after each number of updates in `evaluated_at`, [K]."""
        return (self.logits.argmax(-1) == labels.cpu()[:, None]).double().mean(0)


@dataclass(frozen=True)
class Settings:
    """What every step needs to know.

    wanted    numbers of updates after which to predict, ascending
    autocast  half precision of the products, or None
    """

    rule: Rule
    mask_ratio: float
    latents: bool
    wanted: tuple[int, ...]
    autocast: torch.dtype | None = None

    def precision(self, device: torch.device) -> torch.autocast:
        """The context of everything but the update."""
        return torch.autocast(device.type, self.autocast, enabled=self.autocast is not None)


def run_standard(
    model: MaskedAutoencoder,
    images: Tensor,
    draw: Callable[[range], Tensor],
    names: tuple[str, ...],
    how: Settings,
    size: Size,
    progress: bool,
) -> TTTResult:
    """A stack of `images` [N,3,H,W] at a time, each from the source weights.

    draw  gives the patch orders [n,steps,b,L] of n images
    """
    device = model.cls_token.device
    net: StackedAutoencoder | None = None
    parts, start = [], 0
    with tqdm(total=len(images), desc="TTT", unit="image", disable=not progress) as bar:
        while start < len(images):
            n = min(size.next(), len(images) - start)
            index = range(start, start + n)
            try:
                with size.measuring(n):
                    if net is None or net.replicas != n:
                        net = None  # its memory first
                        net = StackedAutoencoder(model, names, n)
                    net.reset()
                    net.start(how.rule)
                    chunk = images[start : start + n].to(device)
                    parts.append(adapt(net, chunk, draw(index), how, net.reset))
            except RuntimeError as error:
                net = None
                size.shrink(n, error)  # raises what is not for want of memory
                continue
            start += n
            bar.update(n)
    return joined(parts, how)


Part = tuple[Tensor, Tensor, Tensor, Tensor]  # losses, logits, latents, failed: S of each


def adapt(
    net: StackedAutoencoder,
    images: Tensor,
    orders: Tensor,
    how: Settings,
    undo: Callable[[], None],
    *,
    predictor: StackedAutoencoder | None = None,
    after_update: Callable[[], None] | None = None,
) -> Part:
    """All steps on S images [S,3,H,W] with patch orders [S,steps,b,L]; `net` ends adapted.

    undo          gives the weights back as they were before, to predict what failed images keep
    predictor     predicts in `net`'s place
    after_update  what else happens to the weights
    """
    predictor = predictor or net
    model, steps = net.model, orders.shape[1]
    visible = model.num_visible(how.mask_ratio)
    target = model.target(images)  # [S,L,p*p*3], the same for every mask and step
    orders = orders.to(images.device)
    losses, tokens = [], []
    for step in range(steps + 1):
        if step in how.wanted:
            tokens.append(tokens_of(predictor, images, how))  # [S,1+L,D]
        if step < steps:
            losses.append(_update(net, images, target, orders[:, step], visible, how))
            if after_update is not None:
                after_update()
    logits, latents = predictions(model, tokens, how)

    def unadapted() -> tuple[Tensor, Tensor]:
        undo()
        return predictions(model, [tokens_of(predictor, images, how)], how)

    return _void_failures(torch.stack(losses, 1).cpu(), logits, latents, how, unadapted)


def _update(
    net: StackedAutoencoder,
    images: Tensor,
    target: Tensor,
    orders: Tensor,
    visible: int,
    how: Settings,
) -> Tensor:
    """One step under the masks `orders` [S,b,L]; the losses before it, [S]."""
    parts = orders.split(masks_at_once(net.model, orders.shape[1], visible), 1)
    total = images.new_zeros(len(images))
    for i, part in enumerate(parts):
        with how.precision(images.device):
            loss = net.losses(images, target, part, visible)  # [S], mean over the part's masks
        if len(parts) > 1:
            loss = loss * (part.shape[1] / orders.shape[1])
        net.descend(loss, first=i == 0, last=i + 1 == len(parts))
        total += loss.detach()
    return total


@torch.no_grad()
def tokens_of(net: StackedAutoencoder, images: Tensor, how: Settings) -> Tensor:
    """Tokens [S,1+L,D] of images [S,3,H,W], in the precision of the run.

    See `StackedAutoencoder.tokens`.
    """
    with how.precision(images.device):
        return net.tokens(images)


@torch.no_grad()
def predictions(
    model: MaskedAutoencoder, tokens: list[Tensor], how: Settings
) -> tuple[Tensor, Tensor]:
    """Logits [S,K,C] and latents [S,K,D] on the CPU, from K times [S,1+L,D].

    The head takes the K predictions of one image together, so that S has no part in the rounding.
    """
    of_image = torch.stack(tokens, 1)  # [S,K,1+L,D]
    with how.precision(of_image.device):
        logits = torch.stack([model.classify_tokens(one).float() for one in of_image])
    latents = of_image[:, :, 0].float() if how.latents else logits.new_empty(len(logits), 0)
    return logits.cpu(), latents.cpu()


def _void_failures(
    losses: Tensor,
    logits: Tensor,
    latents: Tensor,
    how: Settings,
    unadapted: Callable[[], tuple[Tensor, Tensor]],
) -> Part:
    """From the first non-finite value on, an image counts as not adapted."""
    at = torch.tensor(how.wanted)
    bad = torch.zeros(len(losses), losses.shape[1] + 1, dtype=torch.bool)  # [S,steps+1]
    bad[:, 1:] = ~torch.isfinite(losses)
    bad[:, at] |= ~torch.isfinite(logits).all(-1)
    bad = bad.cummax(1).values
    failed = bad.any(1)
    if failed.any():
        first = (logits[:, :1], latents[:, :1]) if how.wanted[0] == 0 else unadapted()
        logits = torch.where(bad[:, at, None], first[0], logits)
        if how.latents:
            latents = torch.where(bad[:, at, None], first[1], latents)
        losses = losses.masked_fill(bad[:, 1:], float("nan"))
    return losses, logits, latents, failed


def joined(parts: list[Part], how: Settings) -> TTTResult:
    """The result of all images from those of their chunks, in order."""
    losses, logits, latents, failed = (torch.cat(p) for p in zip(*parts, strict=True))
    kept = latents if how.latents else None
    return TTTResult(losses, logits, failed, kept, how.wanted)
