"""The steps of test-time training by rotation prediction, on a stack of images at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from tttlib.ttt.rotation_views import BORDERS, Views, draw_views, views_of
from tttlib.ttt.settings import check_steps, prediction_times
from tttlib.ttt.stacked_rotation import StackedRotationNet


@dataclass(frozen=True, kw_only=True)
class RotationSettings:
    """How a rotation network adapts; what each value means is said at `rotation.run`."""

    steps: int = 10
    batch_size: int = 32
    lr: float = 1e-3
    finetune: str = "all"
    shift: int = 4
    flip: bool = True
    border: str = "black"
    threshold: float | None = None
    seed: int = 0
    evaluate_at: Sequence[int] | None = None
    evaluate_every: int = 100

    @cached_property
    def times(self) -> tuple[int, ...]:
        """The numbers of updates to predict after, ascending."""
        return prediction_times(self.evaluate_at, self.steps)

    def check(self, images: Tensor) -> None:
        """Raise a ValueError for images that are not square and values that cannot be."""
        side = images.shape[-1]
        if images.shape[-2] != side:
            raise ValueError(f"rotated images must be square, not {list(images.shape[-2:])}")
        check_steps(self.steps, self.batch_size, self.lr)
        _ = self.times  # refuse values that cannot be
        if self.border not in BORDERS:
            raise ValueError(f"unknown border {self.border!r}; known are {', '.join(BORDERS)}")
        if not 0 <= self.shift < side:
            raise ValueError(f"shift must be 0 … {side - 1} pixels, not {self.shift}")
        if self.threshold is not None and not 0 < self.threshold <= 1:
            raise ValueError(
                f"threshold must be a probability in (0,1] or None, not {self.threshold}"
            )

    def views(self, image: int) -> Views:
        """Draw the views of the image with this id."""
        return draw_views(self.steps, self.batch_size, self.shift, self.flip, self.seed, image)


def adapt(
    net: StackedRotationNet,
    images: Tensor,
    views_of_each: Sequence[Views],
    settings: RotationSettings,
    rates: Sequence[float],
) -> tuple[Tensor, Tensor, Tensor]:
    """Take all steps on S images; return losses [S,steps], logits [S,K,C] and failed [S].

    `net` ends adapted, except to images that failed. Each image has its views and learning rate.
    """
    views = Views(*(torch.stack(values, 1) for values in zip(*views_of_each, strict=True)))
    before = net.copy_of_weights()
    moving = _unsure(net, images, settings.threshold)  # bool [S]
    losses, logits, failed = [], [], []
    bad = torch.zeros(len(images), dtype=torch.bool, device=images.device)
    for step in range(settings.steps + 1):
        if step in settings.times:
            logits.append(net.classify(images))
            bad |= ~logits[-1].isfinite().all(1)
            failed.append(bad.clone())
        if step < settings.steps:
            drawn = Views(*(x[step] for x in views))
            copies = views_of(images, drawn, settings.shift, settings.border)
            loss = net.rotation_losses(copies, drawn.turns.to(images.device))  # [S]
            bad |= ~loss.isfinite()
            if moving.any():
                net.descend(loss * moving, rates)
            losses.append(loss.detach().masked_fill(bad | ~moving, float("nan")).float().cpu())
    bad |= ~net.finite()
    predicted = torch.stack(logits, 1)  # [S,K,C]
    if bad.any():
        net.set_weights(before, where=bad)
        source = net.classify(images)[:, None]
        predicted = torch.where(torch.stack(failed, 1)[..., None], source, predicted)
    return torch.stack(losses, 1), predicted.float().cpu(), bad.cpu()


@torch.no_grad()
def _unsure(net: StackedRotationNet, images: Tensor, threshold: float | None) -> Tensor:
    """Tell whether each image is less surely upright than `threshold`, bool [S]."""
    upright = torch.zeros(len(images), 1, dtype=torch.long, device=images.device)
    if threshold is None:
        return upright[:, 0] == 0
    return (-net.rotation_losses(images[:, None], upright)).exp() < threshold
