"""One phase of a recipe: its steps, learning rates and random numbers."""

from __future__ import annotations

import functools
import logging
import math
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from tttlib.data import ImageSet
from tttlib.models.training import losses
from tttlib.models.training.crops import augment, shifted
from tttlib.models.training.recipes import Recipe
from tttlib.models.training.state import TrainingState
from tttlib.models.verify import right_answers
from tttlib.runtime.devices import bf16_helps

log = logging.getLogger(__name__)

FLOOR = 1e-6  # of the learning rate


def run_phase(
    model: Any,
    images: ImageSet,
    valid: ImageSet,
    recipe: Recipe,
    number: int,
    state: TrainingState,
    progress: bool,
) -> None:
    """Train `model` on `images` in phase `number` of `recipe`, from where `state` stopped."""
    phase = recipe.phases[number]
    device = model.mean.device
    per_epoch = max(1, len(images) // phase.batch_size)
    steps = max(1, round(per_epoch * phase.epochs))
    optimizer = losses.phase_optimizer(losses.phase_parameters(model, phase), phase)
    start = state.enter(number, optimizer)
    bar = tqdm(total=steps, initial=start, desc=f"{recipe.name} {phase.loss}", disable=not progress)
    pixels, labels = _on_the_device(images, device)
    recent: list[Tensor] = []
    for step in range(start, steps):
        for group in optimizer.param_groups:
            group["lr"] = cosine_lr(step, steps, phase.lr, int(per_epoch * phase.warmup_epochs))
        random = torch.Generator().manual_seed(_mix(recipe.seed, number, step))
        index = batch_index(step, per_epoch, len(images), phase.batch_size, recipe.seed, number)
        index = index.to(labels.device)
        x = pixels[index].to(device).float() / 255  # [B,3,H,W]
        if recipe.shift:
            x = shifted(x, random, reach=recipe.shift, flip=recipe.flip)
        else:
            x = augment(x, random, crop_scale=recipe.crop_scale, flip=recipe.flip)
        y = labels[index].to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16_helps(device)):
            loss = losses.phase_loss(model, phase, x, y, random)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        recent.append(loss.detach())
        bar.update()
        if (step + 1) % 50 == 0 or step + 1 == steps:
            mean = state.note(number, torch.stack(recent))
            rate = (bar.format_dict["rate"] or 0.0) * phase.batch_size
            bar.set_postfix(loss=f"{mean:.3f}", images_s=f"{rate:.0f}")
            recent.clear()
            state.save(model, optimizer, number, step + 1)
        if phase.loss != "mae" and (step + 1) % (4 * per_epoch) == 0:
            accuracy = clean_accuracy(model, valid.sample(min(1000, len(valid))))
            log.info("%s step %d: valid %.3f", recipe.name, step + 1, accuracy)
    bar.close()
    state.save(model, optimizer, number, steps, force=True)


def _on_the_device(images: ImageSet, device: torch.device) -> tuple[Any, Tensor]:
    """Return pixels and labels, on a GPU where they take at most a quarter of its free memory."""
    if device.type != "cuda" or not isinstance(images.images, Tensor):
        return images.images, images.labels
    if images.images.numel() > 0.25 * torch.cuda.mem_get_info(device)[0]:
        return images.images, images.labels
    return images.images.to(device), images.labels.to(device)


def clean_accuracy(model: Any, images: ImageSet) -> float:
    """Return the share in [0,1] of right answers on whole, uncorrupted images."""
    return right_answers(model, images) / len(images)


def cosine_lr(step: int, steps: int, peak: float, warmup: int) -> float:
    """Return the learning rate of a step: linear warm-up, then a half cosine to 1e-6."""
    if step < warmup:
        return peak * (step + 1) / warmup
    share = (step - warmup) / max(1, steps - warmup)
    return FLOOR + (peak - FLOOR) * 0.5 * (1 + math.cos(math.pi * share))


def batch_index(step: int, per_epoch: int, n: int, size: int, seed: int, phase: int) -> Tensor:
    """Return which of n images the batch of a step holds; an epoch shows each image once."""
    epoch, position = divmod(step, per_epoch)
    order = _epoch_order(n, _mix(seed, phase, epoch, 1))
    return order[position * size : (position + 1) * size]


@functools.lru_cache(maxsize=1)
def _epoch_order(n: int, seed: int) -> Tensor:
    """Return the order of n images in one epoch, whose steps ask for it one after the other."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed))


def _mix(*numbers: int) -> int:
    """Make one 62-bit seed from several small numbers."""
    value = 0x9E3779B97F4A7C15
    for number in numbers:
        value = ((value ^ number) * 0xBF58476D1CE4E5B9 + 0x94D049BB133111EB) % 2**62
    return value
