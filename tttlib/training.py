"""Training the bundled models: MAE pretraining, head probing, joint training.

Five losses, one loop. A recipe is a sequence of phases:

* `mae`    reconstruction only (He et al. 2022): AdamW betas (0.9,0.95), weight decay 0.05;
* `probe`  the head on a frozen encoder, as TTT-MAE trains it (Gandelsman et al. 2022, "ViT
           probing"): AdamW betas (0.9,0.999), weight decay 0.2, label smoothing 0.1;
* `joint`  reconstruction + cross-entropy through the shared encoder, the way the original TTT
           trains (Sun et al. 2020). With `class_mask_ratio` > 0 the head sees only the visible
           patches and both losses share one encoder pass (as SupMAE, Liang et al. 2022, does),
           which costs a quarter; a last phase on whole images then adapts the head;
* `supervised`  cross-entropy alone, for the classifiers (Zagoruyko and Komodakis 2016): SGD with
           Nesterov momentum 0.9, weight decay 5e-4;
* `rotation`  cross-entropy of the class, and of the turn on the same batch with every image turned
           by 0, 90, 180 or 270 degrees (Sun et al. 2020); the same optimiser.

Warm-up and half-cosine per iteration. The state is checkpointed every few minutes and a killed run
resumes to the same weights: all randomness is a function of (seed, phase, step).
"""

from __future__ import annotations

import functools
import logging
import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm.auto import tqdm

from tttlib import data
from tttlib.data import ImageSet
from tttlib.devices import best_device, bf16_helps
from tttlib.environment import git_state
from tttlib.models import zoo
from tttlib.models.rotation_net import TURNS, rotated
from tttlib.recipes import RECIPES, Phase, Recipe

__all__ = ["RECIPES", "Phase", "Recipe", "augment", "clean_accuracy", "cosine_lr", "train"]

log = logging.getLogger(__name__)

LABEL_SMOOTHING = 0.1


def train(
    recipe: str | Recipe,
    out: str | Path,
    *,
    root: str | Path | None = None,
    resume: bool = True,
    train_set: ImageSet | None = None,
    valid_set: ImageSet | None = None,
    checkpoint_seconds: float = 180.0,
    device: torch.device | None = None,
    progress: bool = True,
) -> Path:
    """Run a recipe; writes `<out>/<name>.safetensors` with its card and returns that path.

    recipe      a name of `RECIPES` or a `Recipe`
    out         folder; also holds `<name>.checkpoint.pt` while the run is not finished
    resume      continue from that checkpoint when there is one
    train_set, valid_set   instead of the recipe's dataset (tests)
    Raises ValueError for an unknown recipe, an unfitting checkpoint or a non-finite loss.
    """
    if isinstance(recipe, str):
        if recipe not in RECIPES:
            raise ValueError(f"unknown recipe {recipe!r}; known are {', '.join(RECIPES)}")
        recipe = RECIPES[recipe]
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    device = device or best_device()
    images = train_set or data.load(recipe.dataset, "train", root)
    valid = valid_set or _valid_set(recipe.dataset, root)
    torch.manual_seed(recipe.seed)
    architecture = {
        **zoo.PRESETS[recipe.preset],
        "num_classes": len(images.classes),
        **recipe.architecture,
    }
    model = zoo.build(architecture).to(device)
    if architecture.get("family", "mae") != "mae" and not _group_norm_on_gpu(model, device):
        model.to(memory_format=torch.channels_last)  # grouped convolutions train 1.5 times as fast
    model.mean.fill_(0.5)  # the datasets here have no published statistics to follow
    model.std.fill_(0.25)

    state = _TrainingState(out / f"{recipe.name}.checkpoint.pt", recipe, checkpoint_seconds)
    first = state.load(model, device) if resume else 0
    for number in range(first, len(recipe.phases)):
        phase = recipe.phases[number]
        other = phase.dataset and data.load(phase.dataset, "train", root)
        with _tensor_cores(device):
            _run_phase(model, other or images, valid, recipe, number, state, progress)
    accuracy = clean_accuracy(model, valid)
    card = {
        "name": recipe.name,
        "recipe": asdict(recipe),
        "architecture": architecture,
        "mean": [0.5] * 3,
        "std": [0.25] * 3,
        "classes": list(images.classes),
        "seed": recipe.seed,
        "git_sha": git_state()[0],
        "data": images.name,
        "data_fingerprint": images.fingerprint,
        "epochs": [phase.epochs for phase in recipe.phases],
        "clean_accuracy": accuracy,
        "clean_accuracy_on": f"{valid.name} {valid.split}, {len(valid)} images",
        "losses": state.losses,
    }
    path = zoo.save(model, out / f"{recipe.name}.safetensors", card)
    state.path.unlink(missing_ok=True)
    return path


@torch.no_grad()
def clean_accuracy(model: Any, images: ImageSet, batch_size: int = 500) -> float:
    """Share of right answers in [0,1] on whole, uncorrupted images."""
    device = model.mean.device
    model.eval()
    correct = torch.zeros((), dtype=torch.long, device=device)
    for start in range(0, len(images), batch_size):
        x = images.images[start : start + batch_size].to(device).float() / 255
        y = images.labels[start : start + batch_size].to(device)
        correct += (model.classify(x).argmax(1) == y).sum()
    return correct.item() / len(images)


def _valid_set(dataset: str, root: str | Path | None) -> ImageSet:
    """What progress and the card's accuracy are measured on; nothing is chosen by it."""
    try:
        return data.load(dataset, "valid", root)
    except ValueError:  # a dataset of train and test alone
        return data.load(dataset, "test", root)


# -- one phase --------------------------------------------------------------------------------


def _run_phase(
    model: Any,
    images: ImageSet,
    valid: ImageSet,
    recipe: Recipe,
    number: int,
    state: _TrainingState,
    progress: bool,
) -> None:
    phase = recipe.phases[number]
    device = model.mean.device
    per_epoch = max(1, len(images) // phase.batch_size)
    steps = max(1, round(per_epoch * phase.epochs))
    optimizer = _optimizer(_trained_parameters(model, phase), phase)
    start = state.enter(number, optimizer)
    bar = tqdm(total=steps, initial=start, desc=f"{recipe.name} {phase.loss}", disable=not progress)
    losses: list[Tensor] = []
    pixels, labels = _resident(images, device)
    for step in range(start, steps):
        for group in optimizer.param_groups:
            group["lr"] = cosine_lr(step, steps, phase.lr, int(per_epoch * phase.warmup_epochs))
        random = torch.Generator().manual_seed(_mix(recipe.seed, number, step))
        index = _batch_index(step, per_epoch, len(images), phase.batch_size, recipe.seed, number)
        x = pixels[index.to(labels.device)].to(device).float() / 255  # [B,3,H,W]
        if recipe.shift:
            x = shifted(x, random, reach=recipe.shift, flip=recipe.flip)
        else:
            x = augment(x, random, crop_scale=recipe.crop_scale, flip=recipe.flip)
        y = labels[index.to(labels.device)].to(device)
        with _autocast(device):
            loss = _loss(model, phase, x, y, random)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
        bar.update()
        if (step + 1) % 50 == 0 or step + 1 == steps:
            mean = state.note(number, torch.stack(losses))
            bar.set_postfix(loss=f"{mean:.3f}", images_s=f"{_rate(bar) * phase.batch_size:.0f}")
            losses.clear()
            state.save(model, optimizer, number, step + 1)
        if phase.loss != "mae" and (step + 1) % (4 * per_epoch) == 0:
            some = valid.sample(min(1000, len(valid)))
            log.info("%s step %d: valid %.3f", recipe.name, step + 1, clean_accuracy(model, some))
            model.train()
    bar.close()
    state.save(model, optimizer, number, steps, force=True)


def _resident(images: ImageSet, device: torch.device) -> tuple[Any, Tensor]:
    """Pixels and labels, on a GPU from the start when they take at most a quarter of its memory."""
    if device.type != "cuda" or not isinstance(images.images, Tensor):
        return images.images, images.labels
    if images.images.numel() > 0.25 * torch.cuda.mem_get_info(device)[0]:
        return images.images, images.labels
    return images.images.to(device), images.labels.to(device)


def _group_norm_on_gpu(model: torch.nn.Module, device: torch.device) -> bool:
    """Whether every normalisation would copy a channels-last batch into the other format."""
    norms = (m for m in model.modules() if isinstance(m, torch.nn.GroupNorm))
    return device.type == "cuda" and any(True for _ in norms)


def _optimizer(parameters: list[torch.nn.Parameter], phase: Phase) -> torch.optim.Optimizer:
    fused = True if parameters[0].is_cuda else None  # one kernel in place of one for each tensor
    if phase.loss in ("supervised", "rotation"):
        return torch.optim.SGD(
            parameters, phase.lr, 0.9, weight_decay=5e-4, nesterov=True, fused=fused
        )
    betas, decay = ((0.9, 0.999), 0.2) if phase.loss == "probe" else ((0.9, 0.95), 0.05)
    return torch.optim.AdamW(parameters, lr=phase.lr, betas=betas, weight_decay=decay, fused=fused)


def _loss(model: Any, phase: Phase, x: Tensor, y: Tensor, random: torch.Generator) -> Tensor:
    if phase.loss == "supervised":
        return F.cross_entropy(model(x).float(), y)
    if phase.loss == "rotation":
        turns = torch.randint(TURNS, (len(x),), generator=random).to(x.device)
        rotation = F.cross_entropy(model.rotation_logits(rotated(x, turns)).float(), turns)
        return F.cross_entropy(model(x).float(), y) + rotation
    if phase.loss == "probe":
        with torch.no_grad():
            tokens = model.tokens(x)
        return _cross_entropy(model.classify_tokens(tokens), y)
    order = model.random_order(len(x), random, x.device)
    if phase.loss == "mae":
        return model.reconstruction_loss(x, mask_ratio=phase.mask_ratio, order=order)
    if phase.class_mask_ratio == 0:
        reconstruction = model.reconstruction_loss(x, mask_ratio=phase.mask_ratio, order=order)
        return reconstruction + _cross_entropy(model.classify(x), y)
    visible = order[:, : model.num_visible(phase.mask_ratio)]
    tokens = model.tokens(x, visible)  # [B,1+V,D], shared by both branches
    removed = order[:, visible.shape[1] :, None]
    prediction = model.decode(tokens, order).to(x.dtype)
    error = (prediction - model.target(x)).square().mean(-1, keepdim=True)
    logits = model.classify_tokens(tokens, visible)
    return error.gather(1, removed).mean() + _cross_entropy(logits, y)


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits.float(), labels, label_smoothing=LABEL_SMOOTHING)


def _trained_parameters(model: Any, phase: Phase) -> list[torch.nn.Parameter]:
    """Switch gradients for the phase: probing freezes all but the classifier."""
    if phase.loss in ("supervised", "rotation"):
        return list(model.parameters())
    heads = ("classifier", "head.")
    for name, parameter in model.named_parameters():
        is_head = name.startswith(heads)
        wanted = is_head if phase.loss == "probe" else (phase.loss == "joint" or not is_head)
        parameter.requires_grad_(wanted and not name.endswith("pos_embed"))
    return [p for p in model.parameters() if p.requires_grad]


def cosine_lr(step: int, steps: int, peak: float, warmup: int, floor: float = 1e-6) -> float:
    """Linear warm-up, then a half cosine to `floor`, per iteration."""
    if step < warmup:
        return peak * (step + 1) / warmup
    share = (step - warmup) / max(1, steps - warmup)
    return floor + (peak - floor) * 0.5 * (1 + math.cos(math.pi * share))


def augment(x: Tensor, random: torch.Generator, *, crop_scale: float, flip: bool) -> Tensor:
    """Random square crops (side share U(crop_scale,1), resized back bilinearly) and flips.

    x [B,3,H,W] in [0,1]; one crop and one coin per image.
    """
    b = len(x)
    side = crop_scale + (1 - crop_scale) * torch.rand(b, generator=random)
    centre = (1 - side)[:, None] * (2 * torch.rand(b, 2, generator=random) - 1)
    mirror = torch.where(torch.rand(b, generator=random) < 0.5, -1.0, 1.0) if flip else 1.0
    theta = torch.zeros(b, 2, 3)
    theta[:, 0, 0], theta[:, 1, 1], theta[:, :, 2] = side * mirror, side, centre
    grid = F.affine_grid(theta.to(x.device), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, padding_mode="border", align_corners=False)


def shifted(x: Tensor, random: torch.Generator, *, reach: int, flip: bool) -> Tensor:
    """Images moved by whole pixels, -reach … reach in both axes, borders mirrored; and flips.

    x [B,3,H,W]. The padded crop of small images; unlike `augment` it never blurs.
    """
    b, (height, width) = len(x), x.shape[2:]
    padded = F.pad(x, (reach,) * 4, mode="reflect")
    top, left = torch.randint(2 * reach + 1, (2, b, 1), generator=random).to(x.device)  # [B,1]
    rows = top + torch.arange(height, device=x.device)  # [B,H]
    columns = left + torch.arange(width, device=x.device)  # [B,W]
    if flip:
        mirrored = torch.rand(b, 1, generator=random).to(x.device) < 0.5
        columns = torch.where(mirrored, columns.flip(1), columns)
    one = torch.arange(b, device=x.device)[:, None, None]
    return padded[one, :, rows[:, :, None], columns[:, None]].movedim(-1, 1)  # [B,3,H,W]


def _batch_index(
    step: int, per_epoch: int, n: int, batch_size: int, seed: int, phase: int
) -> Tensor:
    epoch, position = divmod(step, per_epoch)
    order = _epoch_order(n, _mix(seed, phase, epoch, 1))
    return order[position * batch_size : (position + 1) * batch_size]


@functools.lru_cache(maxsize=1)
def _epoch_order(n: int, seed: int) -> Tensor:
    """The order of the images in one epoch; its steps ask for it one after the other."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed))


def _mix(*numbers: int) -> int:
    """One 62-bit seed from several small numbers."""
    value = 0x9E3779B97F4A7C15
    for number in numbers:
        value = ((value ^ number) * 0xBF58476D1CE4E5B9 + 0x94D049BB133111EB) % 2**62
    return value


def _autocast(device: torch.device) -> Any:
    if bf16_helps(device):
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()


@contextmanager
def _tensor_cores(device: torch.device) -> Iterator[None]:
    """Let a GPU's matrix products in float32 use its fast units (TF32), as its convolutions do."""
    before = torch.get_float32_matmul_precision()
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _rate(bar: Any) -> float:
    return bar.format_dict["rate"] or 0.0


class _TrainingState:
    """The checkpoint file: weights, optimiser, position; written whole or not at all."""

    def __init__(self, path: Path, recipe: Recipe, seconds: float) -> None:
        self.path, self.recipe, self.seconds = path, recipe, seconds
        self.losses: list[list[float]] = [[] for _ in recipe.phases]
        self._resume: dict[str, Any] | None = None
        self._saved = time.monotonic()

    def load(self, model: Any, device: torch.device) -> int:
        """Number of the phase to go on with."""
        if not self.path.is_file():
            return 0
        state = torch.load(self.path, map_location=device, weights_only=True)
        if state["recipe"] != repr(self.recipe):
            raise ValueError(
                f"{self.path} belongs to a run with other settings; delete it or train elsewhere"
            )
        model.load_state_dict(state["model"])
        self.losses, self._resume = state["losses"], state
        log.info("resuming %s: phase %d step %d", self.recipe.name, state["phase"], state["step"])
        return int(state["phase"])

    def enter(self, phase: int, optimizer: torch.optim.Optimizer) -> int:
        """Step of this phase to go on with."""
        if self._resume is None or self._resume["phase"] != phase:
            return 0
        optimizer.load_state_dict(self._resume["optimizer"])
        step, self._resume = int(self._resume["step"]), None
        return step

    def note(self, phase: int, losses: Tensor) -> float:
        """Keep the mean of the last losses; ValueError when it is not finite."""
        mean = losses.mean().item()
        if not math.isfinite(mean):
            raise ValueError(
                f"{self.recipe.name}: the loss became {mean} in phase {phase}; lower the lr "
                f"(the last good state is {self.path})"
            )
        self.losses[phase].append(round(mean, 4))
        return mean

    def save(
        self,
        model: Any,
        optimizer: torch.optim.Optimizer,
        phase: int,
        step: int,
        force: bool = False,
    ) -> None:
        if not force and time.monotonic() - self._saved < self.seconds:
            return
        temporary = self.path.with_suffix(".tmp")
        torch.save(
            {
                "recipe": repr(self.recipe),
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "phase": phase,
                "step": step,
                "losses": self.losses,
            },
            temporary,
        )
        os.replace(temporary, self.path)
        self._saved = time.monotonic()
