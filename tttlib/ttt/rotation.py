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
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm.auto import tqdm

from tttlib.models.rotation_net import RotationNet
from tttlib.ttt.result import HeldOut, TTTResult, join
from tttlib.ttt.rotation_views import BORDERS, Views, draw_views, views_of
from tttlib.ttt.settings import (
    check_heldout,
    check_ids,
    check_images,
    check_steps,
    prediction_times,
)
from tttlib.ttt.stacked_rotation import StackedRotationNet

__all__ = ["BORDERS", "FINETUNE", "draw_views", "run", "trained_parameters"]

FINETUNE = ("all", "shared")


@dataclass(frozen=True)
class _Settings:
    """What `_adapt` needs to know; see `run`."""

    lr: float
    shift: int
    border: str
    threshold: float | None
    evaluate_at: tuple[int, ...]

    def check(self, side: int) -> None:
        """Raise a ValueError for a value that images of `side` pixels do not allow."""
        if self.border not in BORDERS:
            raise ValueError(f"unknown border {self.border!r}; known are {', '.join(BORDERS)}")
        if not 0 <= self.shift < side:
            raise ValueError(f"shift must be 0 … {side - 1} pixels, not {self.shift}")
        if self.threshold is not None and not 0 < self.threshold <= 1:
            raise ValueError(
                f"threshold must be a probability in (0,1] or None, not {self.threshold}"
            )


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
    """Adapt `model` to each of `images` and predict after every step.

    A loss, weight or prediction that is not finite fails that image: its updates are void, its
    predictions from then on are those before them, and `failed` says so.

    Parameters
    ----------
    model
        The network. Standard mode leaves it untouched, online mode leaves it adapted.
    images
        Floating point [N,3,H,H] in [0,1].
    steps, batch_size
        Updates per image, and views of the same image per step.
    lr
        Learning rate.
    finetune
        "all" moves trunk and rotation branch (released default), "shared" the trunk alone.
    online
        Keep the weights from image to image. The paper takes steps=1.
    shift, flip, border
        The views: crops moved by up to `shift` pixels in an image padded with "black" or
        "mirror", and mirrored with probability 1/2. Use what the network was trained with.
    threshold
        An image whose upright version is recognised as such with at least this probability is not
        adapted to, and its losses are NaN. None adapts to all (released default).
    ids, seed
        The views are drawn from the seed and the id of the image; ids default to 0 … N-1.
    parallel
        Images adapted at once (standard mode). None means 1 on a CPU, where a stack is slower, else
        16. Results do not depend on it beyond rounding.
    evaluate_at
        Numbers of updates, 0 … steps, after which to predict; None means after every one.
    heldout, evaluate_every
        Images [M,3,H,H] that are classified without adaptation every `evaluate_every` images of an
        online stream, and at its end.
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
    names = trained_parameters(model, finetune)
    check_images(images)
    if images.shape[-2] != images.shape[-1]:
        raise ValueError(f"rotated images must be square, not {list(images.shape[-2:])}")
    check_steps(steps, batch_size, lr)
    settings = _Settings(lr, shift, border, threshold, prediction_times(evaluate_at, steps))
    settings.check(images.shape[-1])
    if parallel is not None and parallel < 1:
        raise ValueError(f"parallel must be 1 or more, or None, not {parallel}")
    ids = check_ids(ids, len(images))
    check_heldout(heldout, online, evaluate_every)
    device = model.mean.device
    stack = 1 if online else parallel or (1 if device.type == "cpu" else 16)
    net: StackedRotationNet | None = None
    parts, evaluations = [], HeldOut()
    with tqdm(total=len(images), desc="TTT", unit="image", disable=not progress) as bar:
        for index in torch.arange(len(images)).split(stack):
            if net is None or net.replicas != len(index):
                net = StackedRotationNet(model, names, len(index))
            elif not online:
                net.set_weights()
            if heldout is not None and int(index[0]) % evaluate_every == 0:
                evaluations.add(int(index[0]), _classify(net, heldout))
            drawn = [draw_views(steps, batch_size, shift, flip, seed, int(ids[i])) for i in index]
            views = Views(*(torch.stack(x, 1) for x in zip(*drawn, strict=True)))  # [steps,S,B]
            parts.append(_adapt(net, images[index].to(device), views, settings))
            bar.update(len(index))
    if online and net is not None:
        net.write_to_model()
    if heldout is not None and net is not None:
        evaluations.add(len(images), _classify(net, heldout))
    return join(parts, settings.evaluate_at, evaluations)


def trained_parameters(model: RotationNet, finetune: str = "all") -> tuple[str, ...]:
    """Return the names of the parameters that move: the trunk, with "all" the rotation branch too.

    Raises
    ------
    ValueError
        For another kind of model or an unknown `finetune`.
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


def _adapt(
    net: StackedRotationNet, images: Tensor, views: Views, settings: _Settings
) -> tuple[Tensor, Tensor, Tensor]:
    """Take all steps on S images; return losses [S,steps], logits [S,K,C] and failed [S].

    `net` ends adapted, except to images that failed.
    """
    first, before = net.classify(images), net.copy_of_weights()
    moving = _unsure(net, images, settings.threshold)  # bool [S]
    losses, logits = [], []
    bad = torch.zeros(len(images), dtype=torch.bool, device=images.device)
    for step in range(len(views.turns) + 1):
        if step in settings.evaluate_at:
            now = net.classify(images) if step else first
            bad |= ~now.isfinite().all(1)
            logits.append(torch.where(bad[:, None], first, now).float().cpu())
        if step < len(views.turns):
            drawn = Views(*(x[step] for x in views))
            copies = views_of(images, drawn, settings.shift, settings.border)
            loss = net.rotation_losses(copies, drawn.turns.to(images.device))  # [S]
            bad |= ~loss.isfinite()
            if moving.any():
                net.descend(loss * moving, settings.lr)
            losses.append(loss.detach().masked_fill(bad | ~moving, float("nan")).float().cpu())
    bad |= ~net.finite()
    net.set_weights(before, where=bad)
    return torch.stack(losses, 1), torch.stack(logits, 1), bad.cpu()


@torch.no_grad()
def _classify(net: StackedRotationNet, images: Tensor, batch_size: int = 250) -> Tensor:
    """Return logits [M,C] of a stack of one as it is, on the CPU."""
    net.write_to_model()
    device = net.model.mean.device
    parts = [net.model.classify(x.to(device)).float().cpu() for x in images.split(batch_size)]
    return torch.cat(parts)


@torch.no_grad()
def _unsure(net: StackedRotationNet, images: Tensor, threshold: float | None) -> Tensor:
    """Tell whether each image is less surely upright than `threshold`, bool [S]."""
    upright = torch.zeros(len(images), 1, dtype=torch.long, device=images.device)
    if threshold is None:
        return upright[:, 0] == 0
    return (-net.rotation_losses(images[:, None], upright)).exp() < threshold
