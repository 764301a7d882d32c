"""Test-time training with a masked autoencoder, standard (reset per image) and online.

Gandelsman et al., "Test-Time Training with Masked Autoencoders", NeurIPS 2022, section 3. For an
image x, encoder e_0, frozen decoder d_0 and head h:

    e^s = e^{s-1} - lr * momentum(grad_e (1/B) sum_j l_mae(x, mask_j; e^{s-1}, d_0)),
    y^s = h(e^s(x)),  s = 1 … steps

Standard TTT starts every image at e_0 with a fresh optimiser; online TTT keeps both.

The defaults follow the released code. It freezes everything called decoder* (the paper says that
encoder and decoder train: finetune="all"), trains the mask token, uses no weight decay with SGD,
and scales lr = blr * batch / 256 (`scaled_lr`). The B inputs of a step are one image under B masks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from tttlib.models.mae import MaskedAutoencoder
from tttlib.ttt.entrance import check_inputs
from tttlib.ttt.loop import run_standard
from tttlib.ttt.online import run_online, run_together, stream_of
from tttlib.ttt.result import TTTResult
from tttlib.ttt.settings import MaskOrders, Settings, check_heldout, trained_parameters


def scaled_lr(blr: float, batch_size: int) -> float:
    """Return blr * batch_size / 256, the learning rate of the released code (its blr is 1e-2)."""
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
    """Adapt `model` to each of `images` and predict after every step.

    A loss or prediction that is not finite fails that image: its later updates are void, its
    predictions from then on are the unadapted model's, `failed` says so and the run goes on.
    Online, a failing image makes no update, and weights that fail on a sound image go back to the
    source's. The model is in eval mode throughout.

    Parameters
    ----------
    model
        The network. Standard mode leaves it untouched, online mode leaves it adapted.
    images
        Images [N,3,H,W], floating point in [0,1] or uint8.
    steps
        Updates per image.
    batch_size
        Masks of the same image per step.
    lr
        Learning rate, used as it is; `scaled_lr` gives the released rule.
    mask_ratio
        Share of the patches that a mask removes.
    optimizer, momentum
        "sgd" (with `momentum`), "adamw" or "adam" (both with betas 0.9 and 0.95).
    weight_decay
        Decoupled with "adamw", else an L2 term. None means 0.01 with "adamw", else 0.
    finetune
        "encoder" (released command: decoder* frozen, mask token trained), "all" (as the paper
        writes) or "encoder_no_cls_no_msk".
    online, reset_optimizer
        Keep the weights from image to image, and the optimiser too unless `reset_optimizer`.
    orders
        Patch orders [N,steps,batch_size,L] that fix the masks.
    ids, seed
        Without `orders` the masks are drawn from the seed and the id of the image, so an image's
        masks do not depend on its neighbours. Ids default to 0 … N-1.
    parallel
        Images that adapt at once (standard mode). "auto" (or None) takes more and more while that
        pays, within a quarter of the free memory, and half as many when memory runs out. Results
        do not depend on it beyond rounding.
    evaluate_at
        Numbers of updates, 0 … steps, after which to predict; None means after every one. A
        prediction costs as much as a forward pass on all patches.
    autocast
        "bfloat16" computes matrix products in bfloat16, with weights and updates in float32. That
        is faster where the device has such units (GPUs; CPUs with AMX) and slower elsewhere.
    record_latents
        Also keep the CLS latents.
    heldout, evaluate_every
        Images [M,3,H,W] that are classified without adaptation every `evaluate_every` images of an
        online stream, and at its end.
    calm
        Brakes of the online mode, see `anchoring.Calm`: average, pull, restore. With `average` the
        averaged weights predict, and are what `model` ends with.
    progress
        Show a progress bar.

    Returns
    -------
    TTTResult
        Losses, logits and failures of every image.

    Raises
    ------
    ValueError
        For a network, images or settings that cannot be used, naming them.
    """
    settings = Settings(
        steps=steps,
        batch_size=batch_size,
        lr=lr,
        mask_ratio=mask_ratio,
        optimizer=optimizer,
        momentum=momentum,
        weight_decay=weight_decay,
        finetune=finetune,
        online=online,
        reset_optimizer=reset_optimizer,
        seed=seed,
        parallel=parallel,
        evaluate_at=evaluate_at,
        autocast=autocast,
        record_latents=record_latents,
        evaluate_every=evaluate_every,
        calm=calm,
        progress=progress,
    )
    masks = _checked(model, settings, images, ids, orders, heldout)
    with _evaluating(model):
        if online:
            return run_online(model, stream_of(images, masks, settings, heldout))
        return run_standard(model, images, masks, settings)


def run_streams(
    model: MaskedAutoencoder, streams: Sequence[Mapping[str, Any]], *, progress: bool = False
) -> Iterator[tuple[int, TTTResult]]:
    """Adapt to several streams at once, each with weights of its own that stay from image to image.

    Streams whose settings differ in nothing but the learning rate and the seed advance together,
    which takes about half of the time on a CPU; others take their turns. Lengths may differ.

    Parameters
    ----------
    model
        The network, which is left as it is.
    streams
        For each stream the arguments of `run` after `model`, without `online`.
    progress
        Show progress bars.

    Yields
    ------
    tuple[int, TTTResult]
        The number of a stream, and what `run(online=True)` gives on it alone, as it ends.

    Raises
    ------
    ValueError
        As for `run`.
    """
    checked = []
    for arguments in streams:
        options = dict(arguments)
        images, *given = (options.pop(k, None) for k in ("images", "ids", "orders", "heldout"))
        settings = Settings(**{**options, "online": True, "progress": False})
        masks = _checked(model, settings, images, *given)
        checked.append(stream_of(images, masks, settings, given[-1]))
    with _evaluating(model):
        yield from run_together(model, checked, progress)


def _checked(
    model: MaskedAutoencoder,
    settings: Settings,
    images: Tensor,
    ids: Tensor | None,
    orders: Tensor | None,
    heldout: Tensor | None,
) -> MaskOrders:
    """Refuse what cannot be used, and return the masks."""
    if not isinstance(model, MaskedAutoencoder):
        raise ValueError(
            f"test-time training reconstructs, so it needs a MaskedAutoencoder, not "
            f"{type(model).__name__}; of the bundled networks the mae-… ones"
        )
    ids = check_inputs(model, images, ids, heldout)
    trained_parameters(model, settings.finetune)  # refuses unknown modes
    model.num_visible(settings.mask_ratio)  # refuses a ratio that leaves nothing to see or predict
    check_heldout(heldout, settings.online, settings.evaluate_every)
    return MaskOrders(model, settings, ids, None if orders is None else torch.as_tensor(orders))


@contextmanager
def _evaluating(model: MaskedAutoencoder) -> Iterator[None]:
    """Put all modules into eval mode (the linear head has a BatchNorm), and back at the end."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
