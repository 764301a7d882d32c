"""Test-time training by predicting rotations: the original TTT, standard (reset) and online.

Sun, Wang, Liu, Miller, Efros, Hardt, "Test-Time Training with Self-Supervision for Generalization
under Distribution Shifts", ICML 2020, arXiv 1909.13231, section 2. For an image x, trunk e, frozen
class branch h and rotation branch r:

    (e,r)^s = (e,r)^{s-1} - lr * grad (1/B) sum_j CE(r(e(turn_j(view_j(x)))), turn_j),
    y^s = h(e^s(x)),  s = 1 … steps

Standard ("slow" in the released code) starts every image at the source and takes 10 steps; online
takes 1 and keeps the weights. SGD without momentum, lr 1e-3, B = 32 views of the one image. As in
the released code the views are random crops (4 pixels of black border) and flips, each turned by a
random multiple of 90 degrees, and trunk and rotation branch both move (finetune="shared": the trunk
alone). The prediction follows the update.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm.auto import tqdm

from tttlib.models.rotation_net import TURNS, RotationNet, rotated
from tttlib.stacked_rotation import StackedRotationNet
from tttlib.ttt import TTTResult, check_images, prediction_times

__all__ = [
    "BORDERS",
    "FINETUNE",
    "Views",
    "draw_views",
    "run",
    "run_streams",
    "trained_parameters",
    "views_of",
]

FINETUNE = ("all", "shared")
BORDERS = {"black": "constant", "mirror": "reflect"}


class Views(NamedTuple):
    """How `steps` times B views of one image are made: each [steps,B]."""

    top: Tensor  # first row of the crop in the padded image, 0 … 2 shift
    left: Tensor
    mirror: Tensor  # bool
    turns: Tensor  # quarter circles, 0 … 3


def run(
    model: RotationNet,
    images: Tensor,
    *,
    steps: int = 10,
    batch_size: int = 32,
    lr: float = 1e-3,
    finetune: str = "all",
    online: bool = False,
    shift: int = 4,
    flip: bool = True,
    border: str = "black",
    threshold: float | None = None,
    ids: Tensor | None = None,
    seed: int = 0,
    parallel: int | None = None,
    evaluate_at: Sequence[int] | None = None,
    heldout: Tensor | None = None,
    evaluate_every: int = 100,
    progress: bool = False,
) -> TTTResult:
    """Adapt `model` to each of `images` [N,3,H,H] in [0,1] and predict after every step.

    batch_size   views of the same image per step
    finetune     "all": trunk and rotation branch (released default), "shared": the trunk alone
    online       keep the weights from image to image; `model` itself then ends adapted. Standard
                 mode leaves it untouched. The paper takes steps=1
    shift, flip, border   the views: crops moved by up to `shift` pixels in an image padded with
                 "black" or "mirror", and mirrored with probability 1/2. Use what the network was
                 trained with
    threshold    an image whose upright version is recognised as such with at least this probability
                 is not adapted to, its losses are nan; None: adapt to all (released default)
    ids          views are drawn from (seed, id of the image)
    parallel     images adapted at once (standard mode); None: 1 on a CPU, where a stack is slower,
                 else 16. Results do not depend on it beyond rounding
    evaluate_at  numbers of updates, 0 … steps, after which to predict; None: after every one
    heldout      [M,3,H,H]: evaluated without adaptation every `evaluate_every` images (online)

    A loss, weight or prediction that is not finite fails that image: its updates are void, its
    predictions from then on are those before them, and `failed` says so.
    Raises ValueError for values out of range, naming them.
    """
    names = trained_parameters(model, finetune)
    check_images(images)
    _check(images, steps, batch_size, lr, shift, border, threshold, parallel)
    ids = torch.arange(len(images)) if ids is None else ids.cpu()
    if len(ids) != len(images):
        raise ValueError(f"{len(images)} images but {len(ids)} ids")
    if heldout is not None and (not online or evaluate_every < 1):
        raise ValueError("heldout needs online=True and evaluate_every of 1 or more")
    wanted = prediction_times(evaluate_at, steps)
    device = model.mean.device
    stack = 1 if online else parallel or (1 if device.type == "cpu" else 16)
    net: StackedRotationNet | None = None
    parts, heldout_at, heldout_logits = [], [], []
    bar = tqdm(total=len(images), desc="TTT", unit="image", disable=not progress)
    for index in torch.arange(len(images)).split(stack):
        if net is None or net.replicas != len(index):
            net = StackedRotationNet(model, names, len(index))
        elif not online:
            net.set_weights()
        if heldout is not None and int(index[0]) % evaluate_every == 0:
            heldout_at.append(int(index[0]))
            heldout_logits.append(_predict(net, heldout))
        chunk = images[index].to(device)
        drawn = [draw_views(steps, batch_size, shift, flip, seed, int(ids[i])) for i in index]
        views = Views(*(torch.stack(x, 1) for x in zip(*drawn, strict=True)))  # [steps,S,B]
        parts.append(_adapt(net, chunk, views, lr, wanted, (shift, border), threshold))
        bar.update(len(index))
    bar.close()
    if online and net is not None:
        net.write_to_model()
    if heldout is not None and net is not None:
        heldout_at.append(len(images))
        heldout_logits.append(_predict(net, heldout))
    losses, logits, failed = (torch.cat(part) for part in zip(*parts, strict=True))
    result = TTTResult(losses, logits, failed, evaluated_at=wanted)
    if heldout is None:
        return result
    return replace(result, heldout_at=heldout_at, heldout_logits=torch.stack(heldout_logits))


def run_streams(
    model: RotationNet,
    images: Sequence[Tensor],
    *,
    ids: Sequence[Tensor],
    steps: int = 1,
    batch_size: int = 32,
    lr: float = 1e-3,
    finetune: str = "all",
    shift: int = 4,
    flip: bool = True,
    border: str = "black",
    threshold: float | None = None,
    seed: int = 0,
    evaluate_at: Sequence[int] | None = None,
    progress: bool = False,
) -> list[TTTResult]:
    """Adapt to several streams at once, each with weights of its own that stay from image to image.

    Parameters
    ----------
    images
        One tensor [N,3,H,H] in [0,1] for each stream; all have as many images.
    ids
        One tensor [N] for each stream. Views are drawn from (seed, id of the image).

    Returns
    -------
    list of TTTResult
        What `run(online=True)` gives on each stream alone, up to rounding. One stack advances all
        streams together, which on a GPU takes little longer than one stream. `model` is left as it
        is.

    Raises
    ------
    ValueError
        For streams of different lengths, and for values out of range, naming them.
    """
    names = trained_parameters(model, finetune)
    lengths = {len(x) for x in [*images, *ids]}
    if len(lengths) != 1 or len(images) != len(ids):
        raise ValueError(
            f"streams that run together must be equally long and have as many ids as images, not "
            f"{[len(x) for x in images]} images and {[len(x) for x in ids]} ids; run others alone"
        )
    for stream in images:
        check_images(stream)
        _check(stream, steps, batch_size, lr, shift, border, threshold, None)
    wanted = prediction_times(evaluate_at, steps)
    net = StackedRotationNet(model, names, len(images))
    arrivals = torch.stack(list(images), 1)  # [N,S,3,H,H]
    parts = []
    for i, arrived in enumerate(tqdm(arrivals, desc="online TTT", disable=not progress)):
        drawn = [draw_views(steps, batch_size, shift, flip, seed, int(own[i])) for own in ids]
        views = Views(*(torch.stack(x, 1) for x in zip(*drawn, strict=True)))  # [steps,S,B]
        here = arrived.to(model.mean.device)
        parts.append(_adapt(net, here, views, lr, wanted, (shift, border), threshold))
    losses, logits, failed = (torch.stack(part, 1) for part in zip(*parts, strict=True))
    return [
        TTTResult(losses[s], logits[s], failed[s], evaluated_at=wanted) for s in range(len(images))
    ]


def trained_parameters(model: RotationNet, finetune: str = "all") -> tuple[str, ...]:
    """Names of the parameters that move: the trunk, with "all" the rotation branch too.

    Raises ValueError for another kind of model or an unknown `finetune`.
    """
    if not isinstance(model, RotationNet):
        raise ValueError(
            f"rotation prediction needs a RotationNet, not {type(model).__name__}; of the bundled "
            "networks the rot-… ones"
        )
    if finetune not in FINETUNE:
        raise ValueError(f"unknown finetune {finetune!r}; known are {', '.join(FINETUNE)}")
    trunk = ["conv1.", *(f"block{k}." for k in range(1, model.split + 1))]
    trunk += ["norm."] * (model.split == 3) + ["rotation_"] * (finetune == "all")
    return tuple(name for name, _ in model.named_parameters() if name.startswith(tuple(trunk)))


def draw_views(steps: int, batch_size: int, shift: int, flip: bool, seed: int, image: int) -> Views:
    """The random numbers of all steps on the image of id `image`."""
    random = torch.Generator().manual_seed((seed * 1_000_003 + image) % 2**62)
    shape = (steps, batch_size)
    top, left = torch.randint(2 * shift + 1, (2, *shape), generator=random)
    mirror = (torch.rand(shape, generator=random) < 0.5) & flip
    return Views(top, left, mirror, torch.randint(TURNS, shape, generator=random))


def views_of(images: Tensor, views: Views, shift: int, border: str) -> Tensor:
    """Images [S,3,H,H] and views [S,B] -> crops, mirrored, then turned [S,B,3,H,H]."""
    side = images.shape[-1]
    padded = F.pad(images, (shift,) * 4, mode=BORDERS[border])
    along = torch.arange(side)
    columns = torch.where(views.mirror[..., None], along.flip(0), along) + views.left[..., None]
    rows = views.top[..., None] + along  # [S,B,H]
    s = torch.arange(len(images))[:, None, None, None]
    cropped = padded[s, :, rows[..., None], columns[:, :, None]]  # [S,B,H,H,3]
    flat = cropped.movedim(-1, 2).flatten(0, 1)
    return rotated(flat, views.turns.flatten()).unflatten(0, views.turns.shape)


def _adapt(
    net: StackedRotationNet,
    images: Tensor,
    views: Views,
    lr: float,
    wanted: tuple[int, ...],
    padding: tuple[int, str],
    threshold: float | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """All steps on S images: losses [S,steps], logits [S,K,C], failed [S]; `net` ends adapted."""
    steps = len(views.turns)
    first, before = net.classify(images), net.copy_of_weights()
    moving = _unsure(net, images, threshold)  # bool [S]
    losses, logits = [], []
    bad = torch.zeros(len(images), dtype=torch.bool, device=images.device)
    for step in range(steps + 1):
        if step in wanted:
            found = net.classify(images) if step else first
            bad |= ~found.isfinite().all(1)
            logits.append(torch.where(bad[:, None], first, found).float().cpu())
        if step < steps:
            now = Views(*(x[step] for x in views))
            copies = views_of(images, now, *padding)
            loss = net.rotation_losses(copies, now.turns.to(images.device))  # [S]
            bad |= ~loss.isfinite()
            if moving.any():
                net.descend(loss * moving, lr)
            losses.append(loss.detach().masked_fill(bad | ~moving, float("nan")).float().cpu())
    bad |= ~net.finite()
    net.set_weights(before, where=bad)
    return torch.stack(losses, 1), torch.stack(logits, 1), bad.cpu()


@torch.no_grad()
def _predict(net: StackedRotationNet, images: Tensor, batch_size: int = 250) -> Tensor:
    """Logits [M,C] of a stack of one as it is, on the CPU."""
    net.write_to_model()
    device = net.model.mean.device
    parts = [net.model.classify(x.to(device)).float().cpu() for x in images.split(batch_size)]
    return torch.cat(parts)


@torch.no_grad()
def _unsure(net: StackedRotationNet, images: Tensor, threshold: float | None) -> Tensor:
    """Whether each image is less surely upright than `threshold`, bool [S]."""
    upright = torch.zeros(len(images), 1, dtype=torch.long, device=images.device)
    if threshold is None:
        return upright[:, 0] == 0
    return (-net.rotation_losses(images[:, None], upright)).exp() < threshold


def _check(
    images: Tensor,
    steps: int,
    batch_size: int,
    lr: float,
    shift: int,
    border: str,
    threshold: float | None,
    parallel: int | None,
) -> None:
    """One ValueError that names the value and what is legal."""
    if steps < 1 or batch_size < 1:
        raise ValueError(f"steps and batch_size must be 1 or more, not {steps} and {batch_size}")
    if not lr >= 0:
        raise ValueError(f"lr must be 0 or more, not {lr}")
    side = images.shape[-1]
    if images.shape[-2] != side:
        raise ValueError(f"rotated images must be square, not {list(images.shape[-2:])}")
    if border not in BORDERS:
        raise ValueError(f"unknown border {border!r}; known are {', '.join(BORDERS)}")
    if not 0 <= shift < side:
        raise ValueError(f"shift must be 0 … {side - 1} pixels, not {shift}")
    if threshold is not None and not 0 < threshold <= 1:
        raise ValueError(f"threshold must be a probability in (0,1] or None, not {threshold}")
    if parallel is not None and parallel < 1:
        raise ValueError(f"parallel must be 1 or more, or None, not {parallel}")
