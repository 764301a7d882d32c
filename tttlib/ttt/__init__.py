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

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from numbers import Integral

import torch
from torch import Tensor
from tqdm.auto import tqdm

from tttlib.models.mae import MaskedAutoencoder
from tttlib.ttt.anchoring import Calm
from tttlib.ttt.batching import Size, fitting, masks_at_once
from tttlib.ttt.loop import Settings, TTTResult, run_standard
from tttlib.ttt.online import run_online
from tttlib.ttt.sgd import Rule

__all__ = ["FINETUNE", "OPTIMIZERS", "TTTResult", "run", "scaled_lr", "trained_parameters"]

OPTIMIZERS = ("sgd", "adamw", "adam")
FINETUNE = ("encoder", "all", "encoder_no_cls_no_msk")


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
    weight_decay: float | None = None,
    finetune: str = "encoder",
    online: bool = False,
    reset_optimizer: bool = False,
    orders: Tensor | None = None,
    ids: Tensor | None = None,
    seed: int = 0,
    parallel: int | str | None = "auto",
    evaluate_at: Sequence[int] | None = None,
    autocast: str | None = None,
    record_latents: bool = False,
    heldout: Tensor | None = None,
    evaluate_every: int = 100,
    calm: Mapping[str, float] | None = None,
    progress: bool = False,
) -> TTTResult:
    """Adapt `model` to each of `images` [N,3,H,W] in [0,1] and predict after every step.

    batch_size       masks of the same image per step
    lr               used as it is; `scaled_lr` gives the released rule
    optimizer        "sgd" (momentum), "adamw" or "adam" (both betas (0.9,0.95))
    weight_decay     decoupled with "adamw", else an L2 term; None: 0.01 with "adamw", else 0
    finetune         "encoder" (released command: decoder* frozen, mask token trained), "all"
                     (as the paper writes), "encoder_no_cls_no_msk"
    online           keep the weights (and, unless `reset_optimizer`, the optimiser) from image to
                     image; `model` itself then ends adapted. Standard mode leaves it untouched.
    orders           [N,steps,batch_size,L] patch orders; else drawn from (seed, id of the image),
                     so an image's masks do not depend on its neighbours
    parallel         how many images adapt at once (standard mode). "auto" (or None): more and more
                     while that pays, within a quarter of the free memory; halved when memory runs
                     out. Results do not depend on it beyond rounding
    evaluate_at      numbers of updates, 0 … steps, after which to predict; None: after every one.
                     A prediction costs as much as a forward pass on all patches
    autocast         "bfloat16": matrix products in bfloat16, weights and updates in float32. Faster
                     where the device has such units (GPUs; CPUs with AMX), slower elsewhere
    heldout          [M,3,H,W]: evaluated without adaptation every `evaluate_every` images (online)
    calm             brakes of the online mode, see `calm.Calm`: average, pull, restore. With
                     `average` the averaged weights predict, and are what `model` ends with

    A loss or prediction that is not finite fails that image: its later updates are void, its
    predictions from then on are the unadapted model's, `failed` says so and the run goes on.
    Online, a failing image makes no update, and weights that fail on a sound image go back to the
    source's. The model is in eval mode throughout.
    Raises ValueError for values out of range, naming them.
    """
    if not isinstance(model, MaskedAutoencoder):
        raise ValueError(
            f"test-time training reconstructs, so it needs a MaskedAutoencoder, not "
            f"{type(model).__name__}; of the bundled networks the mae-… ones"
        )
    check_images(images)
    _check(model, images, steps, batch_size, lr, optimizer, finetune, orders)
    if weight_decay is not None and not weight_decay >= 0:
        raise ValueError(f"weight_decay must be 0 or more, or None, not {weight_decay}")
    visible = model.num_visible(mask_ratio)  # refuses a ratio that leaves nothing to see or predict
    wanted = prediction_times(evaluate_at, steps)
    if autocast not in (None, "bfloat16"):
        raise ValueError(f"autocast must be None or 'bfloat16', not {autocast!r}")
    fixed = _fixed_parallel(parallel)
    names = trained_parameters(model, finetune)
    ids = torch.arange(len(images)) if ids is None else ids.cpu()
    if len(ids) != len(images):
        raise ValueError(f"{len(images)} images but {len(ids)} ids")
    if heldout is not None and (not online or evaluate_every < 1):
        raise ValueError("heldout needs online=True and evaluate_every of 1 or more")
    if calm and not online:
        raise ValueError("calm needs online=True: standard TTT starts every image at the source")
    brakes = _calm(calm)

    def draw(index: range) -> Tensor:
        if orders is not None:
            return orders[index.start : index.stop].long()
        return torch.stack(
            [mask_orders(model, steps, batch_size, seed, int(ids[i])) for i in index]
        )

    rule = Rule(optimizer, lr, momentum, weight_decay)
    half = torch.bfloat16 if autocast else None
    how = Settings(rule, mask_ratio, record_latents, wanted, half)
    with _evaluating(model):
        if online:
            stream = tqdm(range(len(images)), "online TTT", unit="image", disable=not progress)
            return run_online(
                model,
                images,
                draw,
                names,
                how,
                reset_optimizer=reset_optimizer,
                calm=brakes,
                seed=seed,
                heldout=heldout,
                evaluate_every=evaluate_every,
                stream=stream,
            )
        masks = masks_at_once(model, batch_size, visible)
        most = len(images) if fixed else fitting(model, names, masks, optimizer, visible)
        size = Size(min(most, len(images)), fixed and min(fixed, len(images)))
        return run_standard(model, images, draw, names, how, size, progress)


def trained_parameters(model: MaskedAutoencoder, finetune: str) -> tuple[str, ...]:
    """Names of the parameters that move in a `finetune` mode (those that get a gradient).

    Raises ValueError for an unknown mode.
    """
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


def mask_orders(model: MaskedAutoencoder, steps: int, batch: int, seed: int, image: int) -> Tensor:
    """The patch orders [steps,batch,L] that `run` draws for the image with this id."""
    random = torch.Generator().manual_seed((seed * 1_000_003 + image) % 2**62)
    return torch.rand(steps, batch, model.num_patches, generator=random).argsort(-1)


def prediction_times(evaluate_at: Sequence[int] | None, steps: int) -> tuple[int, ...]:
    """The numbers of updates to predict after, ascending.

    Raises ValueError unless `evaluate_at` holds different whole numbers from 0 to `steps`.
    """
    if evaluate_at is None:
        return tuple(range(steps + 1))
    wanted = tuple(evaluate_at)
    legal = all(isinstance(k, Integral) and 0 <= k <= steps for k in wanted)
    if not wanted or not legal or len(set(wanted)) != len(wanted):
        raise ValueError(
            f"evaluate_at must be different whole numbers from 0 to steps ({steps}), "
            f"not {evaluate_at!r}"
        )
    return tuple(sorted(int(k) for k in wanted))


def _calm(values: Mapping[str, float] | None) -> Calm:
    known = [field.name for field in fields(Calm)]
    for name in values or {}:
        if name not in known:
            raise ValueError(f"unknown brake {name!r} in calm; known are {', '.join(known)}")
    return Calm(**(values or {}))


def _fixed_parallel(parallel: int | str | None) -> int | None:
    if parallel in (None, "auto"):
        return None
    if isinstance(parallel, bool) or not isinstance(parallel, Integral) or parallel < 1:
        raise ValueError(f"parallel must be 1 or more, or 'auto', not {parallel!r}")
    return int(parallel)


def check_images(images: Tensor) -> None:
    """ValueError for anything but floating point [N,3,H,W], N > 0."""
    if not images.is_floating_point() or images.ndim != 4 or len(images) == 0:
        raise ValueError(
            f"images must be floating point [N,3,H,W] in [0,1] with N > 0, got {images.dtype} "
            f"{list(images.shape)}; divide uint8 images by 255"
        )


@contextmanager
def _evaluating(model: MaskedAutoencoder) -> Iterator[None]:
    """Eval mode (the linear head has a BatchNorm) for the duration, then as it was."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def _check(
    model: MaskedAutoencoder,
    images: Tensor,
    steps: int,
    batch_size: int,
    lr: float,
    optimizer: str,
    finetune: str,
    orders: Tensor | None,
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
    wanted = (len(images), steps, batch_size, model.num_patches)
    if orders is not None and tuple(orders.shape) != wanted:
        raise ValueError(f"orders must be {list(wanted)}, got {list(orders.shape)}")
