"""The settings of test-time training, checked once and passed on as one object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from numbers import Integral

import torch
from torch import Tensor

from tttlib.models.mae import MaskedAutoencoder
from tttlib.ttt.anchoring import Calm
from tttlib.ttt.sgd import Rule

OPTIMIZERS = ("sgd", "adamw", "adam")
FINETUNE = ("encoder", "all", "encoder_no_cls_no_msk")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a masked autoencoder adapts; what each value means is said at `ttt.run`."""

    steps: int
    batch_size: int
    lr: float
    mask_ratio: float = 0.75
    optimizer: str = "sgd"
    momentum: float = 0.9
    weight_decay: float | None = None
    finetune: str = "encoder"
    online: bool = False
    reset_optimizer: bool = False
    seed: int = 0
    parallel: int | str | None = "auto"
    evaluate_at: Sequence[int] | None = None
    autocast: str | None = None
    record_latents: bool = False
    evaluate_every: int = 100
    calm: Mapping[str, float] | None = None
    progress: bool = False

    def __post_init__(self) -> None:
        check_steps(self.steps, self.batch_size, self.lr)
        if self.optimizer not in OPTIMIZERS:
            known = ", ".join(OPTIMIZERS)
            raise ValueError(f"unknown optimizer {self.optimizer!r}; known are {known}")
        if self.weight_decay is not None and not self.weight_decay >= 0:
            raise ValueError(f"weight_decay must be 0 or more, or None, not {self.weight_decay}")
        if self.autocast not in (None, "bfloat16"):
            raise ValueError(f"autocast must be None or 'bfloat16', not {self.autocast!r}")
        n = 1 if self.parallel in (None, "auto") else self.parallel
        if isinstance(n, bool) or not isinstance(n, Integral) or n < 1:
            raise ValueError(f"parallel must be 1 or more, or 'auto', not {n!r}")
        if self.calm and not self.online:
            raise ValueError("calm needs online=True: standard TTT starts each image at the source")
        brakes = [strength.name for strength in fields(Calm)]
        for name in self.calm or {}:
            if name not in brakes:
                raise ValueError(f"unknown brake {name!r} in calm; known are {', '.join(brakes)}")
        _ = self.times, self.brakes  # refuse values that cannot be

    @cached_property
    def times(self) -> tuple[int, ...]:
        """The numbers of updates to predict after, ascending."""
        return prediction_times(self.evaluate_at, self.steps)

    @property
    def brakes(self) -> Calm:
        """The brakes of the online mode."""
        return Calm(**(self.calm or {}))

    @property
    def rule(self) -> Rule:
        """The optimiser."""
        return Rule(self.optimizer, self.lr, self.momentum, self.weight_decay)

    def precision(self, device: torch.device) -> torch.autocast:
        """Return the context of everything but the update."""
        return torch.autocast(device.type, torch.bfloat16, enabled=self.autocast is not None)


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
    """Raise a ValueError for counts that are no whole numbers from 1 up, or a negative rate."""
    if not all(isinstance(n, Integral) and n >= 1 for n in (steps, batch_size)):
        raise ValueError(f"steps and batch_size must be 1 or more, not {steps} and {batch_size}")
    if not lr >= 0:
        raise ValueError(f"lr must be 0 or more, not {lr}")


def check_heldout(heldout: Tensor | None, online: bool, evaluate_every: int) -> None:
    """Raise a ValueError where a held-out set could never be evaluated."""
    if heldout is not None and (not online or evaluate_every < 1):
        raise ValueError("heldout needs online=True and evaluate_every of 1 or more")
