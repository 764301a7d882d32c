"""The loops of test-time training: one image, a stack of images, a stream of them.

`ttt.run` is the way in; it checks the settings, draws the masks and chooses the loop.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from tqdm.auto import tqdm

from tttlib.models.mae import MaskedAutoencoder
from tttlib.stacked import StackedAutoencoder


@dataclass(frozen=True)
class TTTResult:
    """What test-time training of N images gave; everything float32 (or the model's) on the CPU.

    losses    [N,steps], each before its update; nan after a failure
    logits    [N,steps+1,C], index 0 before any update of that image
    latents   [N,steps+1,D] CLS latents, or None
    failed    bool [N]: the loss or the logits became non-finite, see `run`
    heldout_at      numbers of stream images after which the held-out set was evaluated (online)
    heldout_logits  [len(heldout_at),M,C] or None
    """

    losses: Tensor
    logits: Tensor
    failed: Tensor
    latents: Tensor | None = None
    heldout_at: list[int] = field(default_factory=list)
    heldout_logits: Tensor | None = None

    def accuracy(self, labels: Tensor) -> Tensor:
        """Share of right answers after 0 … steps updates, [steps+1]."""
        return (self.logits.argmax(-1) == labels.cpu()[:, None]).double().mean(0)


OptimizerFactory = Callable[[Iterable[Tensor]], torch.optim.Optimizer]


@dataclass(frozen=True)
class Settings:
    """What every step needs to know."""

    make: OptimizerFactory
    mask_ratio: float
    latents: bool


Chunk = tuple[Tensor, Tensor, Tensor]  # losses [S,steps], logits [S,steps+1,C], latents


def run_standard(
    model: MaskedAutoencoder,
    images: Tensor,
    draw: Callable[[range], Tensor],
    names: tuple[str, ...],
    how: Settings,
    size: int,
    progress: bool,
) -> TTTResult:
    """`size` images at a time, each from the source weights."""
    adapt = _Loop(model, names) if size == 1 else _Stack(model, names, size)
    parts = []
    with tqdm(total=len(images), desc="TTT", unit="image", disable=not progress) as bar:
        for start in range(0, len(images), size):
            index = range(start, min(start + size, len(images)))
            chunk = images[index.start : index.stop].to(model.cls_token.device)
            parts.append(adapt.chunk(chunk, draw(index), how))
            bar.update(len(index))
    losses, logits, latents = (torch.cat(p) for p in zip(*parts, strict=True))
    return _void_failures(losses, logits, latents if how.latents else None)


class _Stack:
    """Standard TTT of S images at once."""

    def __init__(self, model: MaskedAutoencoder, names: tuple[str, ...], size: int) -> None:
        self.model, self.names = model, names
        self.net = StackedAutoencoder(model, names, size)

    def chunk(self, images: Tensor, orders: Tensor, how: Settings) -> Chunk:
        if len(images) != len(next(iter(self.net.parameters.values()))):
            self.net = StackedAutoencoder(self.model, self.names, len(images))
        net, model = self.net, self.model
        net.reset()
        optimizer = how.make(net.parameters.values())
        visible = model.num_visible(how.mask_ratio)
        target = model.target(images)  # [S,L,p*p*3], the same for every mask and step
        orders = orders.to(images.device)
        losses, tokens = [], []
        with torch.no_grad():
            tokens.append(net.tokens(images))
        for step in range(orders.shape[1]):
            loss = net.losses(images, target, orders[:, step], visible)  # [S]
            optimizer.zero_grad(set_to_none=True)
            loss.sum().backward()
            optimizer.step()
            losses.append(loss.detach())
            with torch.no_grad():
                tokens.append(net.tokens(images))
        return _collect(model, losses, tokens, how.latents)


class _Loop:
    """Standard TTT of one image, as the released code writes it: the oracle of `_Stack`."""

    def __init__(self, model: MaskedAutoencoder, names: tuple[str, ...]) -> None:
        self.source = model
        self.model = copy.deepcopy(model)
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(name in names)

    def chunk(self, images: Tensor, orders: Tensor, how: Settings) -> Chunk:
        model = self.model
        model.load_state_dict(self.source.state_dict())
        optimizer = how.make([p for p in model.parameters() if p.requires_grad])
        return _adapt_one(model, images, orders[0], optimizer, how)


def _adapt_one(
    model: MaskedAutoencoder,
    image: Tensor,
    orders: Tensor,
    optimizer: torch.optim.Optimizer,
    how: Settings,
) -> Chunk:
    """All steps on one image [1,3,H,W] with patch orders [steps,b,L]; `model` ends adapted.

    A step whose loss is not finite makes no update.
    """
    losses, tokens = [], []
    with torch.no_grad():
        tokens.append(model.tokens(image))
    copies = image.expand(orders.shape[1], -1, -1, -1)
    for order in orders.to(image.device):
        loss = model.reconstruction_loss(copies, mask_ratio=how.mask_ratio, order=order)
        optimizer.zero_grad(set_to_none=True)
        if torch.isfinite(loss):
            loss.backward()
            optimizer.step()
        losses.append(loss.detach()[None])
        with torch.no_grad():
            tokens.append(model.tokens(image))
    return _collect(model, losses, tokens, how.latents)


@torch.no_grad()
def _collect(
    model: MaskedAutoencoder, losses: list[Tensor], tokens: list[Tensor], latents: bool
) -> Chunk:
    """Head on the tokens of every step, results to the CPU (the chunk's one synchronisation)."""
    logits = torch.stack([model.classify_tokens(t).float() for t in tokens], 1)  # [S,steps+1,C]
    cls = torch.stack([t[:, 0].float() for t in tokens], 1) if latents else logits.new_empty(0)
    return torch.stack(losses, 1).cpu(), logits.cpu(), cls.cpu()


def _void_failures(losses: Tensor, logits: Tensor, latents: Tensor | None) -> TTTResult:
    """From the first non-finite value on, an image counts as not adapted."""
    bad = ~torch.isfinite(logits).all(-1)  # [N,steps+1]
    bad[:, 1:] |= ~torch.isfinite(losses)
    bad = bad.cummax(1).values
    failed = bad.any(1)
    logits = torch.where(bad[..., None], logits[:, :1], logits)
    losses = losses.masked_fill(bad[:, 1:], float("nan"))
    if latents is not None:
        latents = torch.where(bad[..., None], latents[:, :1], latents)
    return TTTResult(losses=losses, logits=logits, failed=failed, latents=latents)


def run_online(
    model: MaskedAutoencoder,
    images: Tensor,
    draw: Callable[[range], Tensor],
    names: tuple[str, ...],
    how: Settings,
    reset_optimizer: bool,
    heldout: Tensor | None,
    evaluate_every: int,
    stream: Iterable[int],
) -> TTTResult:
    """One image after the other; weights (and momenta) stay."""
    source = copy.deepcopy(model.state_dict())
    wanted = {name: p.requires_grad for name, p in model.named_parameters()}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in names)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = how.make(trained)
    device = model.cls_token.device
    parts, failed, heldout_at, heldout_logits = [], [], [], []
    try:
        for i in stream:
            if heldout is not None and i % evaluate_every == 0:
                heldout_at.append(i)
                heldout_logits.append(_predict(model, heldout))
            if reset_optimizer:
                optimizer = how.make(trained)
            image, orders = images[i : i + 1].to(device), draw(range(i, i + 1))[0]
            before = [p.detach().clone() for p in trained]
            part = _adapt_one(model, image, orders, optimizer, how)
            failed.append(not _finite(part))
            if failed[-1] and not torch.isfinite(part[0][0, 0]) and torch.isfinite(image).all():
                model.load_state_dict(source)  # the weights it met were already beyond use
                before = [p.detach().clone() for p in trained]
                optimizer = how.make(trained)
                part = _adapt_one(model, image, orders, optimizer, how)
            if not _finite(part) and torch.isfinite(part[0][0, 0]):
                _restore(trained, before)  # its own update made them so
                optimizer = how.make(trained)
            parts.append(part)
    finally:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(wanted[name])
            parameter.grad = None
    if heldout is not None:
        heldout_at.append(len(images))
        heldout_logits.append(_predict(model, heldout))
    losses, logits, latents = (torch.cat(p) for p in zip(*parts, strict=True))
    result = _void_failures(losses, logits, latents if how.latents else None)
    return replace(
        result,
        failed=result.failed | torch.tensor(failed),
        heldout_at=heldout_at,
        heldout_logits=torch.stack(heldout_logits) if heldout is not None else None,
    )


def _finite(part: Chunk) -> bool:
    return bool(torch.isfinite(part[0]).all() and torch.isfinite(part[1]).all())


@torch.no_grad()
def _restore(parameters: list[torch.nn.Parameter], values: list[Tensor]) -> None:
    for parameter, value in zip(parameters, values, strict=True):
        parameter.copy_(value)


@torch.no_grad()
def _predict(model: MaskedAutoencoder, images: Tensor, batch_size: int = 250) -> Tensor:
    """Logits [M,C] of the model as it is."""
    device = model.cls_token.device
    return torch.cat([model.classify(x.to(device)).float().cpu() for x in images.split(batch_size)])
