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


@dataclass(frozen=True)
class RotationSettings:
    """How a rotation network adapts; what each value means is said at `rotation.run`."""

    steps: int
    batch_size: int
    lr: float
    shift: int
    flip: bool
    border: str
    threshold: float | None
    seed: int
    evaluate_at: Sequence[int] | None

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

    def views(self, ids: Tensor) -> Views:
        """Draw the views of the images with these ids [S]; each entry is [steps,S,B]."""
        drawn = [
            draw_views(self.steps, self.batch_size, self.shift, self.flip, self.seed, int(i))
            for i in ids
        ]
        return Views(*(torch.stack(values, 1) for values in zip(*drawn, strict=True)))


def adapt(
    net: StackedRotationNet, images: Tensor, ids: Tensor, settings: RotationSettings
) -> tuple[Tensor, Tensor, Tensor]:
    """Take all steps on S images; return losses [S,steps], logits [S,K,C] and failed [S].

    `net` ends adapted, except to images that failed.
    """
    first, before = net.classify(images), net.copy_of_weights()
    moving = _unsure(net, images, settings.threshold)  # bool [S]
    views, losses, logits = settings.views(ids), [], []
    bad = torch.zeros(len(images), dtype=torch.bool, device=images.device)
    for step in range(settings.steps + 1):
        if step in settings.times:
            now = net.classify(images) if step else first
            bad |= ~now.isfinite().all(1)
            logits.append(torch.where(bad[:, None], first, now).float().cpu())
        if step < settings.steps:
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
def _unsure(net: StackedRotationNet, images: Tensor, threshold: float | None) -> Tensor:
    """Tell whether each image is less surely upright than `threshold`, bool [S]."""
    upright = torch.zeros(len(images), 1, dtype=torch.long, device=images.device)
    if threshold is None:
        return upright[:, 0] == 0
    return (-net.rotation_losses(images[:, None], upright)).exp() < threshold
