"""The recipes that the bundled weights are trained with; `training.train` runs them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

Loss = Literal["mae", "probe", "joint", "supervised", "rotation"]


@dataclass(frozen=True)
class Phase:
    """One stretch of training with one loss and one cosine."""

    loss: Loss
    epochs: float
    lr: float
    batch_size: int = 256
    warmup_epochs: float = 0.5
    mask_ratio: float = 0.75
    class_mask_ratio: float = 0.0  # joint only: 0, or the mask_ratio to share the encoder pass

    def __post_init__(self) -> None:
        if self.loss not in get_args(Loss):
            known = ", ".join(get_args(Loss))
            raise ValueError(f"phase loss must be one of {known}; not {self.loss!r}")
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be 1 or more, not {self.batch_size}")
        if not (self.epochs > 0 and self.lr > 0):
            raise ValueError(f"epochs and lr must be positive, not {self.epochs} and {self.lr}")
        if self.loss != "probe" and not 0 < self.mask_ratio < 1:
            raise ValueError(
                f"mask_ratio must lie strictly between 0 and 1 in training, not {self.mask_ratio};"
                " the papers use 0.75"
            )
        if self.class_mask_ratio not in (0.0, self.mask_ratio):
            raise ValueError(
                f"class_mask_ratio must be 0 or mask_ratio ({self.mask_ratio}), "
                f"not {self.class_mask_ratio}"
            )


@dataclass(frozen=True)
class Recipe:
    """How one network is trained: data, architecture, phases and augmentation."""

    name: str
    dataset: str
    preset: str
    phases: tuple[Phase, ...]
    flip: bool
    crop_scale: float = 1.0  # smallest side of a random crop, as a share of the image's side
    seed: int = 0
    architecture: dict[str, Any] = field(default_factory=dict)
    shift: int = 0  # pixels: instead of the resized crop, the image moved by up to so many


_MAE, _LONG_MAE = Phase("mae", 8, 1e-3, 128), Phase("mae", 200, 1.5e-3, 1024, warmup_epochs=10)
_PHASES: dict[str, tuple[Phase, ...]] = {
    "mae-scenes": (_MAE, Phase("joint", 5, 1e-3, 128, warmup_epochs=0.2)),
    "mae-scenes-probed": (_MAE, Phase("probe", 4, 1e-3, 128, warmup_epochs=0.2)),
    "mae-scenes-calm": (  # both losses on the visible patches first, as MATE does for point clouds
        Phase("joint", 6, 2e-3, 128, class_mask_ratio=0.75),
        Phase("joint", 5, 1.5e-3, 128, warmup_epochs=0.1),
    ),
    "mae-tiny-imagenet-50": (
        Phase("joint", 12, 1e-3, 64, warmup_epochs=1, class_mask_ratio=0.75),
        Phase("joint", 1, 3e-4, 64, warmup_epochs=0.05),
    ),
    # For a GPU: all 200 classes, long schedules, both ways to obtain the head.
    "mae-tiny-imagenet": (_LONG_MAE, Phase("joint", 60, 1e-3, 1024, warmup_epochs=5)),
    "mae-tiny-imagenet-probed": (_LONG_MAE, Phase("probe", 20, 4e-3, 1024, warmup_epochs=5)),
    # BatchNorm classifiers: the source models of continual test-time adaptation.
    "wrn-scenes": (Phase("supervised", 25, 0.1, 128),),
    "wrn-cifar10-jpeg": (Phase("supervised", 12, 0.2, 128, warmup_epochs=1),),
    "wrn-tiny-imagenet": (Phase("supervised", 6, 0.2, 128),),
    "resnext-tiny-imagenet-100": (Phase("supervised", 8, 0.1, 128),),
    # Class and rotation on a shared trunk: the original TTT.
    "rot-scenes": (Phase("rotation", 20, 0.1, 128),),
    # Both at once on one GPU in five minutes, which set the numbers of epochs.
    "rot-cifar10-jpeg": (Phase("rotation", 28, 0.2, 256, warmup_epochs=2),),
    "mae-cifar10-jpeg": (
        Phase("joint", 53, 1e-3, 512, warmup_epochs=5, class_mask_ratio=0.75),
        Phase("joint", 19, 5e-4, 512, warmup_epochs=1),
    ),
}


_HALF: dict[str, Any] = {"shift": 8, "architecture": {"stem_stride": 2}}
_QUARTER: dict[str, Any] = {"shift": 8, "architecture": {"stem": (7, 4)}}


def _recipe(name: str, dataset: str, preset: str, **how: Any) -> Recipe:
    flip = not dataset.startswith("scenes")  # whose classes differ from their mirror images
    return Recipe(name, dataset, preset, _PHASES[name], flip, **how)


RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        _recipe("mae-scenes", "scenes", "scenes", crop_scale=0.8),
        _recipe("mae-scenes-probed", "scenes", "scenes", crop_scale=0.8),
        _recipe("mae-scenes-calm", "scenes-calm", "scenes-small", crop_scale=0.8),
        _recipe("mae-tiny-imagenet-50", "tiny-imagenet-50", "tiny-imagenet", crop_scale=0.6),
        _recipe("mae-tiny-imagenet", "tiny-imagenet", "tiny-imagenet", crop_scale=0.5),
        _recipe("mae-tiny-imagenet-probed", "tiny-imagenet", "tiny-imagenet", crop_scale=0.5),
        _recipe("wrn-scenes", "scenes", "wrn-10-1", shift=2),
        _recipe("rot-scenes", "scenes", "rot-10-1", shift=2),
        _recipe("wrn-cifar10-jpeg", "cifar10-jpeg", "wrn-16-2", shift=4),
        _recipe("rot-cifar10-jpeg", "cifar10-jpeg", "rot-28-1", shift=4),
        _recipe("mae-cifar10-jpeg", "cifar10-jpeg", "cifar", crop_scale=0.7),
        _recipe("wrn-tiny-imagenet", "tiny-imagenet", "wrn-16-2", **_HALF),
        _recipe("resnext-tiny-imagenet-100", "tiny-imagenet-100", "resnext-20", **_QUARTER),
    )
}
