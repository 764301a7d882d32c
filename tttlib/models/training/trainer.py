"""A whole recipe: its phases one after the other, then the weights and their card."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import torch

from tttlib import data
from tttlib.data import ImageSet
from tttlib.models import zoo
from tttlib.models.training.phases import clean_accuracy, run_phase
from tttlib.models.training.recipes import RECIPES, Recipe
from tttlib.models.training.state import TrainingState
from tttlib.runtime import memory
from tttlib.runtime.devices import best_device
from tttlib.runtime.environment import git_state


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
    """Run a recipe and write `<out>/<name>.safetensors` with its card.

    Parameters
    ----------
    recipe
        A name of `RECIPES` or a `Recipe`.
    out
        Folder of the result. While the run is not finished it holds `<name>.checkpoint.pt`, too.
    root
        Folder of the datasets.
    resume
        Continue from that checkpoint when there is one.
    train_set, valid_set
        Used in place of the recipe's dataset.
    checkpoint_seconds
        Time between checkpoints.
    device
        Where to train; None takes the best one.
    progress
        Show a progress bar.

    Returns
    -------
    Path
        The file of weights.

    Raises
    ------
    ValueError
        For an unknown recipe, the checkpoint of another run or a loss that is not finite.
    """
    if isinstance(recipe, str):
        if recipe not in RECIPES:
            raise ValueError(f"unknown recipe {recipe!r}; known are {', '.join(RECIPES)}")
        recipe = RECIPES[recipe]
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    memory.keep_freed()
    device = device or best_device()
    images = train_set or data.load(recipe.dataset, "train", root)
    valid = valid_set or _valid_set(recipe.dataset, root)
    torch.manual_seed(recipe.seed)
    sizes = {"num_classes": len(images.classes), **recipe.architecture}
    architecture = {**zoo.PRESETS[recipe.preset], **sizes}
    model = zoo.build(architecture).to(device)
    if architecture.get("family", "mae") != "mae" and not _group_norm_on_gpu(model, device):
        model.to(memory_format=torch.channels_last)  # grouped convolutions train 1.5 times as fast
    model.mean.fill_(0.5)  # the datasets here have no published statistics to follow
    model.std.fill_(0.25)

    state = TrainingState(out / f"{recipe.name}.checkpoint.pt", recipe, checkpoint_seconds)
    first = state.load(model, device) if resume else 0
    for number in range(first, len(recipe.phases)):
        with _tensor_cores(device):
            run_phase(model, images, valid, recipe, number, state, progress)
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
        "clean_accuracy": clean_accuracy(model, valid),
        "clean_accuracy_on": f"{valid.name} {valid.split}, {len(valid)} images",
        "losses": state.losses,
    }
    path = zoo.save(model, out / f"{recipe.name}.safetensors", card)
    state.path.unlink(missing_ok=True)
    return path


def _valid_set(dataset: str, root: str | Path | None) -> ImageSet:
    """Load what progress and the card's accuracy are measured on; nothing is chosen by it."""
    try:
        return data.load(dataset, "valid", root)
    except ValueError:  # a dataset of train and test alone
        return data.load(dataset, "test", root)


def _group_norm_on_gpu(model: torch.nn.Module, device: torch.device) -> bool:
    """Return whether normalisations would copy a channels-last batch into the other format."""
    return device.type == "cuda" and any(
        isinstance(module, torch.nn.GroupNorm) for module in model.modules()
    )


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
