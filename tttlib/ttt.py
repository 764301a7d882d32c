"""Test-time training with a masked autoencoder, standard (reset per image) and online.

Gandelsman et al., "Test-Time Training with Masked Autoencoders", NeurIPS 2022. For an image x,
encoder e_0 and frozen decoder d_0 and head h (methods of its section 3):

    e^s = e^{s-1} - lr * momentum(grad_e (1/B) sum_j l_mae(x, mask_j; e^{s-1}, d_0)),
    y^s = h(e^s(x)),  s = 1 … steps

Standard TTT starts every image at e_0 with a fresh optimiser; online TTT keeps both.

Followed by default: the released code. It freezes everything called decoder* (the paper says that
encoder and decoder train: finetune="all"), trains the mask token, uses no weight decay with SGD,
and scales lr = blr * batch / 256 (`scaled_lr`). The B inputs of a step are one image under B masks.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor
from tqdm.auto import tqdm

from tttlib.models.mae import MaskedAutoencoder
from tttlib.stacked import StackedAutoencoder

OPTIMIZERS = ("sgd", "adamw", "adam")
FINETUNE = ("encoder", "all", "encoder_no_cls_no_msk")


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


def scaled_lr(blr: float, batch_size: int) -> float:
    """The released rule: learning rate = blr * batch_size / 256 (its README: blr 1e-2)."""
    return blr * batch_size / 256


def run(
    model: MaskedAutoencoder,
    images: Tensor,
    *,
    steps: int,
    batch_size: int,
    lr: float,
    mask_ratio: float = 0.75,
    optimizer: str = "sgd",
    momentum: float = 0.9,
    finetune: str = "encoder",
    online: bool = False,
    reset_optimizer: bool = False,
    orders: Tensor | None = None,
    ids: Tensor | None = None,
    seed: int = 0,
    parallel: int | None = None,
    record_latents: bool = False,
    heldout: Tensor | None = None,
    evaluate_every: int = 100,
    progress: bool = False,
) -> TTTResult:
    """Adapt `model` to each of `images` [N,3,H,W] in [0,1] and predict after every step.

    batch_size       masks of the same image per step
    lr               used as it is; `scaled_lr` gives the released rule
    optimizer        "sgd" (momentum, no decay), "adamw" (betas (0.9,0.95), decay 0.01), "adam"
    finetune         "encoder" (released command: decoder* frozen, mask token trained), "all"
                     (as the paper writes), "encoder_no_cls_no_msk"
    online           keep the weights (and, unless `reset_optimizer`, the optimiser) from image to
                     image; `model` itself then ends adapted. Standard mode leaves it untouched.
    orders           [N,steps,batch_size,L] patch orders; else drawn from (seed, id of the image),
                     so an image's masks do not depend on its neighbours
    parallel         how many images adapt at once (standard mode): 1 is the plain loop, None a
                     number that keeps the processor busy within 256 MB of weights
    heldout          [M,3,H,W]: evaluated without adaptation every `evaluate_every` images (online)

    A loss or prediction that is not finite fails that image: its later updates are void, its
    predictions from then on are the unadapted model's, `failed` says so and the run goes on.
    Online, a failing image makes no update, and non-finite weights go back to the source's.
    Raises ValueError for values out of range, naming them.
    """
    _check(model, images, steps, batch_size, lr, optimizer, finetune, orders, parallel)
    model.num_visible(mask_ratio)  # refuses a ratio that leaves nothing to see or to predict
    names = trained_parameters(model, finetune)
    ids = torch.arange(len(images)) if ids is None else ids.cpu()
    if len(ids) != len(images):
        raise ValueError(f"{len(images)} images but {len(ids)} ids")
    if heldout is not None and (not online or evaluate_every < 1):
        raise ValueError("heldout needs online=True and evaluate_every of 1 or more")

    def draw(index: range) -> Tensor:
        if orders is not None:
            return orders[index.start : index.stop].long()
        return torch.stack([_orders(model, steps, batch_size, seed, int(ids[i])) for i in index])

    how = _Settings(_optimizer_factory(optimizer, lr, momentum), mask_ratio, record_latents)
    if online:
        stream = tqdm(range(len(images)), desc="online TTT", unit="image", disable=not progress)
        return _run_online(
            model, images, draw, names, how, reset_optimizer, heldout, evaluate_every, stream
        )
    size = parallel or _auto_parallel(model, names, batch_size)
    size = min(size, len(images))
    adapt = _Loop(model, names) if size == 1 else _Stack(model, names, size)
    parts = []
    bar = tqdm(total=len(images), desc="TTT", unit="image", disable=not progress)
    for start in range(0, len(images), size):
        index = range(start, min(start + size, len(images)))
        chunk = images[index.start : index.stop].to(model.cls_token.device)
        parts.append(adapt.chunk(chunk, draw(index), how))
        bar.update(len(index))
    bar.close()
    losses, logits, latents = (torch.cat(p) for p in zip(*parts, strict=True))
    return _void_failures(losses, logits, latents if record_latents else None)


def trained_parameters(model: MaskedAutoencoder, finetune: str) -> tuple[str, ...]:
    """Names of the parameters that move in a `finetune` mode (those that get a gradient)."""
    if finetune not in FINETUNE:
        raise ValueError(f"unknown finetune {finetune!r}; known are {', '.join(FINETUNE)}")
    frozen = ["classifier", "head."]
    if finetune != "all":
        frozen.append("decoder")
    if finetune == "encoder_no_cls_no_msk":
        frozen += ["cls_token", "mask_token"]
    return tuple(
        name
        for name, _ in model.named_parameters()
        if not name.startswith(tuple(frozen)) and not name.endswith("pos_embed")
    )


OptimizerFactory = Callable[[Iterable[Tensor]], torch.optim.Optimizer]


@dataclass(frozen=True)
class _Settings:
    """What every step needs to know."""

    make: OptimizerFactory
    mask_ratio: float
    latents: bool


def _optimizer_factory(name: str, lr: float, momentum: float) -> OptimizerFactory:
    """Element-wise optimisers only: they act on each replica of a stack independently."""
    if name == "sgd":
        return lambda p: torch.optim.SGD(p, lr=lr, momentum=momentum)
    if name == "adamw":
        return lambda p: torch.optim.AdamW(p, lr=lr, betas=(0.9, 0.95), weight_decay=0.01)
    return lambda p: torch.optim.Adam(p, lr=lr, betas=(0.9, 0.95))


def _orders(model: MaskedAutoencoder, steps: int, batch: int, seed: int, image: int) -> Tensor:
    """Patch orders [steps,batch,L] of one image."""
    random = torch.Generator().manual_seed((seed * 1_000_003 + image) % 2**62)
    return torch.rand(steps, batch, model.num_patches, generator=random).argsort(-1)


def _auto_parallel(model: MaskedAutoencoder, names: tuple[str, ...], batch_size: int) -> int:
    """At most 128 masks and 16 images a step, with weights, gradients and momenta within 256 MB.

    Beyond these a processor's caches overflow and an image costs more again.
    """
    parameters = dict(model.named_parameters())
    replica = 3 * sum(parameters[n].numel() * parameters[n].element_size() for n in names)
    return max(1, min(16, 128 // batch_size, 2**28 // replica))


Chunk = tuple[Tensor, Tensor, Tensor]  # losses [S,steps], logits [S,steps+1,C], latents


class _Stack:
    """Standard TTT of S images at once."""

    def __init__(self, model: MaskedAutoencoder, names: tuple[str, ...], size: int) -> None:
        self.model, self.names = model, names
        self.net = StackedAutoencoder(model, names, size)

    def chunk(self, images: Tensor, orders: Tensor, how: _Settings) -> Chunk:
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

    def chunk(self, images: Tensor, orders: Tensor, how: _Settings) -> Chunk:
        model = self.model
        model.load_state_dict(self.source.state_dict())
        optimizer = how.make([p for p in model.parameters() if p.requires_grad])
        return _adapt_one(model, images, orders[0], optimizer, how)


def _adapt_one(
    model: MaskedAutoencoder,
    image: Tensor,
    orders: Tensor,
    optimizer: torch.optim.Optimizer,
    how: _Settings,
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


def _run_online(
    model: MaskedAutoencoder,
    images: Tensor,
    draw: Callable[[range], Tensor],
    names: tuple[str, ...],
    how: _Settings,
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
    parts, heldout_at, heldout_logits = [], [], []
    try:
        for i in stream:
            if heldout is not None and i % evaluate_every == 0:
                heldout_at.append(i)
                heldout_logits.append(_predict(model, heldout))
            if reset_optimizer:
                optimizer = how.make(trained)
            image, orders = images[i : i + 1].to(device), draw(range(i, i + 1))[0]
            parts.append(_adapt_one(model, image, orders, optimizer, how))
            if not all(bool(torch.isfinite(p).all()) for p in trained):
                model.load_state_dict(source)
                optimizer = how.make(trained)
    finally:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(wanted[name])
            parameter.grad = None
    if heldout is not None:
        heldout_at.append(len(images))
        heldout_logits.append(_predict(model, heldout))
    losses, logits, latents = (torch.cat(p) for p in zip(*parts, strict=True))
    result = _void_failures(losses, logits, latents if how.latents else None)
    return TTTResult(
        losses=result.losses,
        logits=result.logits,
        failed=result.failed,
        latents=result.latents,
        heldout_at=heldout_at,
        heldout_logits=torch.stack(heldout_logits) if heldout is not None else None,
    )


@torch.no_grad()
def _predict(model: MaskedAutoencoder, images: Tensor, batch_size: int = 250) -> Tensor:
    """Logits [M,C] of the model as it is."""
    device = model.cls_token.device
    return torch.cat([model.classify(x.to(device)).float().cpu() for x in images.split(batch_size)])


def _check(
    model: MaskedAutoencoder,
    images: Tensor,
    steps: int,
    batch_size: int,
    lr: float,
    optimizer: str,
    finetune: str,
    orders: Tensor | None,
    parallel: int | None,
) -> None:
    """One ValueError that names the value and what is legal."""
    if steps < 1 or batch_size < 1:
        raise ValueError(f"steps and batch_size must be 1 or more, not {steps} and {batch_size}")
    if not lr >= 0:
        raise ValueError(f"lr must be 0 or more, not {lr}")
    if optimizer not in OPTIMIZERS:
        raise ValueError(f"unknown optimizer {optimizer!r}; known are {', '.join(OPTIMIZERS)}")
    if finetune not in FINETUNE:
        raise ValueError(f"unknown finetune {finetune!r}; known are {', '.join(FINETUNE)}")
    if parallel is not None and parallel < 1:
        raise ValueError(f"parallel must be 1 or more, or None, not {parallel}")
    if not images.is_floating_point() or images.ndim != 4 or len(images) == 0:
        raise ValueError(
            f"images must be floating point [N,3,H,W] in [0,1] with N > 0, got {images.dtype} "
            f"{list(images.shape)}; divide uint8 images by 255"
        )
    wanted = (len(images), steps, batch_size, model.num_patches)
    if orders is not None and tuple(orders.shape) != wanted:
        raise ValueError(f"orders must be {list(wanted)}, got {list(orders.shape)}")
