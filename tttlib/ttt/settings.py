"""The settings of test-time training, checked once and passed on as one object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from numbers import Integral
from typing import Any

import torch
from torch import Tensor

from tttlib.models.mae import MaskedAutoencoder
from tttlib.ttt.anchoring import Calm
from tttlib.ttt.sgd import Rule

OPTIMIZERS = ("sgd", "adamw", "adam")
FINETUNE = ("encoder", "all", "encoder_no_cls_no_msk")


@dataclass(frozen=True)
class Settings:
    """How a masked autoencoder adapts; what each value means is said at `ttt.run`.

    `names` are the parameters that move, `visible` is the number of patches that a mask leaves,
    `parallel` is None for "auto" and `autocast` is the number format of the products.
    """

    steps: int
    batch_size: int
    rule: Rule
    names: tuple[str, ...]
    visible: int
    evaluate_at: tuple[int, ...]
    online: bool = False
    reset_optimizer: bool = False
    seed: int = 0
    parallel: int | None = None
    autocast: torch.dtype | None = None
    record_latents: bool = False
    evaluate_every: int = 100
    calm: Calm = field(default_factory=Calm)
    progress: bool = False

    @classmethod
    def of(
        cls,
        model: MaskedAutoencoder,
        *,
        steps: int,
        batch_size: int,
        lr: float,
        optimizer: str,
        momentum: float,
        weight_decay: float | None,
        finetune: str,
        mask_ratio: float,
        evaluate_at: Sequence[int] | None,
        parallel: int | str | None,
        autocast: str | None,
        calm: Mapping[str, float] | None,
        online: bool,
        **rest: Any,
    ) -> Settings:
        """Check the arguments of `ttt.run` and return them in the form that the loops need."""
        check_steps(steps, batch_size, lr)
        if optimizer not in OPTIMIZERS:
            raise ValueError(f"unknown optimizer {optimizer!r}; known are {', '.join(OPTIMIZERS)}")
        if weight_decay is not None and not weight_decay >= 0:
            raise ValueError(f"weight_decay must be 0 or more, or None, not {weight_decay}")
        if autocast not in (None, "bfloat16"):
            raise ValueError(f"autocast must be None or 'bfloat16', not {autocast!r}")
        if calm and not online:
            raise ValueError(
                "calm needs online=True: standard TTT starts every image at the source"
            )
        return cls(
            steps=steps,
            batch_size=batch_size,
            rule=Rule(optimizer, lr, momentum, weight_decay),
            names=trained_parameters(model, finetune),
            visible=model.num_visible(mask_ratio),  # refuses ratios that hide nothing or all
            evaluate_at=prediction_times(evaluate_at, steps),
            online=online,
            parallel=_parallel(parallel),
            autocast=torch.bfloat16 if autocast else None,
            calm=_calm(calm),
            **rest,
        )

    def precision(self, device: torch.device) -> torch.autocast:
        """Return the context of everything but the update."""
        return torch.autocast(device.type, self.autocast, enabled=self.autocast is not None)


@dataclass(frozen=True)
class MaskOrders:
    """The patch orders of every image: given ones, else drawn from the seed and the image's id."""

    model: MaskedAutoencoder
    settings: Settings
    ids: Tensor
    fixed: Tensor | None

    def __post_init__(self) -> None:
        s = self.settings
        expected = (len(self.ids), s.steps, s.batch_size, self.model.num_patches)
        if self.fixed is not None and tuple(self.fixed.shape) != expected:
            raise ValueError(f"orders must be {list(expected)}, got {list(self.fixed.shape)}")

    def __getitem__(self, index: slice) -> Tensor:
        """Patch orders [n,steps,b,L] of n images."""
        if self.fixed is not None:
            return self.fixed[index].long()
        s = self.settings
        return torch.stack(
            [
                mask_orders(self.model, s.steps, s.batch_size, s.seed, int(i))
                for i in self.ids[index]
            ]
        )


def mask_orders(model: MaskedAutoencoder, steps: int, batch: int, seed: int, image: int) -> Tensor:
    """Return the patch orders [steps,batch,L] that `run` draws for the image with this id."""
    return torch.rand(steps, batch, model.num_patches, generator=generator_of(seed, image)).argsort(
        -1
    )


def generator_of(seed: int, image: int) -> torch.Generator:
    """Return the random numbers of one image: a function of the seed and the image's id alone."""
    return torch.Generator().manual_seed((seed * 1_000_003 + image) % 2**62)


def trained_parameters(model: MaskedAutoencoder, finetune: str) -> tuple[str, ...]:
    """Return the names of the parameters that move in a `finetune` mode (those with a gradient).

    Raises
    ------
    ValueError
        For an unknown mode.
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


def prediction_times(evaluate_at: Sequence[int] | None, steps: int) -> tuple[int, ...]:
    """Return the numbers of updates to predict after, ascending; None means after every one.

    Raises
    ------
    ValueError
        Unless `evaluate_at` holds different whole numbers from 0 to `steps`.
    """
    if evaluate_at is None:
        return tuple(range(steps + 1))
    times = tuple(evaluate_at)
    legal = all(isinstance(k, Integral) and 0 <= k <= steps for k in times)
    if not times or not legal or len(set(times)) != len(times):
        raise ValueError(
            f"evaluate_at must be different whole numbers from 0 to steps ({steps}), "
            f"not {evaluate_at!r}"
        )
    return tuple(sorted(int(k) for k in times))


def check_steps(steps: int, batch_size: int, lr: float) -> None:
    """Raise a ValueError for counts below 1 or a learning rate that is no number from 0 up."""
    if steps < 1 or batch_size < 1:
        raise ValueError(f"steps and batch_size must be 1 or more, not {steps} and {batch_size}")
    if not lr >= 0:
        raise ValueError(f"lr must be 0 or more, not {lr}")


def check_images(images: Tensor) -> None:
    """Raise a ValueError for anything but floating point [N,3,H,W] with N > 0."""
    if not images.is_floating_point() or images.ndim != 4 or len(images) == 0:
        raise ValueError(
            f"images must be floating point [N,3,H,W] in [0,1] with N > 0, got {images.dtype} "
            f"{list(images.shape)}; divide uint8 images by 255"
        )


def check_ids(ids: Tensor | None, n: int) -> Tensor:
    """Return the ids of n images, 0 … n-1 where none are given, on the CPU."""
    ids = torch.arange(n) if ids is None else torch.as_tensor(ids).cpu()
    if len(ids) != n:
        raise ValueError(f"{n} images but {len(ids)} ids")
    return ids


def check_heldout(heldout: Tensor | None, online: bool, evaluate_every: int) -> None:
    """Raise a ValueError where a held-out set could never be evaluated."""
    if heldout is not None and (not online or evaluate_every < 1):
        raise ValueError("heldout needs online=True and evaluate_every of 1 or more")


def _parallel(parallel: int | str | None) -> int | None:
    if parallel in (None, "auto"):
        return None
    if isinstance(parallel, bool) or not isinstance(parallel, Integral) or parallel < 1:
        raise ValueError(f"parallel must be 1 or more, or 'auto', not {parallel!r}")
    return int(parallel)


def _calm(values: Mapping[str, float] | None) -> Calm:
    known = [strength.name for strength in fields(Calm)]
    for name in values or {}:
        if name not in known:
            raise ValueError(f"unknown brake {name!r} in calm; known are {', '.join(known)}")
    return Calm(**(values or {}))
