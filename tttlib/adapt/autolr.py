"""AutoLR, a reconstruction: every layer has its own rate, such that deeper layers change more.

Paper: Ro and Choi, AutoLR: Layer-wise Pruning and Auto-tuning of Learning Rates in Fine-tuning of
Deep Networks, AAAI 2021, arXiv 2002.06048: supervised fine-tuning, rates tuned once an epoch. PALM
(Maharana et al., AAAI 2025, arXiv 2403.10650) discusses it for test time without telling settings.
This is a transfer to test time and no reproduction of either. For each batch and layer l of n:
    v_l = ||w_new - w_old||_2 of a trial update with the rates of the last batch
    sorted = 1 - 2 sum_l |l - rank of v_l| / n^2;   while sorted < 0.94, at most 10 times:
        rate_l <- rate_l desired_l / v_l            (v is proportional to the rate)
    and the update is made. desired ascends: for the first batch evenly from 3 min v to 0.4 max v;
    later it is v, mended from the middle layer outward: a shallower layer that changes more than
    its neighbour gets the neighbour's v less (max v - min v)/(n-1), a deeper one that changes less
    gets it plus that.
The rule, 0.94, 3 and 0.4 are those of AutoLR's code. The loss is PALM's,
    L = mean over {b: H(z_b) < margin} of H(z_b) + lambda C CE(z||z'),
convolutions and norms are trained, BatchNorm layers use batch statistics, and the logits are those
from before the update. A layer is a residual or transformer block, or a layer outside of these.

Choices and deviations: one update is an epoch; all trained tensors of a layer count, in the code
its convolutions only; per_weight=True divides v_l by the layer's number of weights as the code
does, the text's norm has no division; no pruning; where 3 min v exceeds 0.4 max v (the code would
try for ever) the range is min v to max v; a mended v stays above 1 % of min v (in the code it can
turn negative); rates stay within lr/100 and 100 lr.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from tttlib.adapt.common import parameters
from tttlib.adapt.common.adapter import Adapter, TrainingConfig, ViewConfig
from tttlib.adapt.common.batch_norm import use_batch_statistics
from tttlib.adapt.common.config import Limits, NotNegative
from tttlib.adapt.common.losses import reliable_entropy
from tttlib.adapt.common.optimizers import (
    adam_direction,
    corrections,
    gated,
    move,
    sgd_direction,
    zeros_like,
)
from tttlib.runtime.devices import read_back

TRIALS = 10
BOUND = 100.0  # rates stay within this factor of lr
LOWEST, HIGHEST = 3.0, 0.4  # of min v and max v: the first batch's range


@dataclass(frozen=True, kw_only=True)
class AutoLRConfig(TrainingConfig, ViewConfig):
    """Constants; `per_weight` divides v_l by the number of the layer's weights."""

    lr: NotNegative = 5e-4  # of every layer at the start
    sorted_enough: Annotated[float, Limits(greatest=1)] = 0.94  # needs no adjustment
    per_weight: bool = False
    margin: float | None = 0.4  # in nats; None is 0.4 ln C
    consistency: NotNegative = 0.01  # lambda, which C multiplies


class AutoLR(Adapter, name="autolr"):
    """Diagnostics, n layers in the order of depth, whose names are `layers`.

    rates, change
        [n] learning rates and v.
    sortedness, trials
        Of v before any adjustment, and how many trials it took.
    loss, reliable
        L, and the number of reliable images.
    """

    trains: ClassVar = "convolutions and normalisation layers"
    presets: ClassVar = {
        "cifar10-c": AutoLRConfig(),
        "cifar100-c": AutoLRConfig(),
        "imagenet-c": AutoLRConfig(lr=5e-5),
    }

    def configure(self) -> list[str]:
        """Train convolutions and norms, with batch statistics."""
        use_batch_statistics(self.model)
        return parameters.convolutions_and_norms(self.model)

    def make_optimizer(self) -> None:
        """Prepare the memory: moments of every tensor, rates of every layer."""
        layers = [layer_of(name) for name in self.trained]
        self.layers = tuple(dict.fromkeys(layers))
        self._layer = [self.layers.index(layer) for layer in layers]
        zeros = zeros_like(self.parameters)
        self.memory |= {"means": zeros, "updates": self.sizes.new_zeros(())}
        if self.config.optimizer == "adam":
            self.memory["squares"] = zeros_like(zeros)
        self.memory |= {"rates": [self.config.lr] * len(self.layers), "started": False}

    def step(self, images: Tensor) -> Tensor:
        """Answer a batch, adjust the rates to its gradient, and follow it."""
        config = self.config
        logits = self.model(images)
        # PALM's loss
        loss, reliable = reliable_entropy(logits, config.margin)
        weight = config.consistency * logits.shape[1]
        loss = loss + self.inconsistency(logits, images, weight)
        g = self.gradients(loss)
        with torch.no_grad():
            # Trial updates, which decide the rates
            ok, g = gated(g, self.parameters, config.weight_decay)
            directions = self._directions(g, ok)
            trials = self._adjust(self._sizes_of(directions))
            # The update
            rates = [self.memory["rates"][layer] for layer in self._layer]
            move(self.parameters, directions, rates, ok)
        self.diagnostics |= {"trials": torch.tensor(trials), "loss": loss.detach()}
        self.diagnostics["reliable"] = reliable.sum()
        return logits

    def _directions(self, g: list[Tensor], ok: Tensor) -> list[Tensor]:
        """Return what an update with rate 1 subtracts: Adam's direction, or SGD's."""
        config, memory = self.config, self.memory
        memory["updates"] += ok
        if config.optimizer == "sgd":
            return sgd_direction(memory["means"], g, config.momentum, config.nesterov, ok)
        steps = memory["updates"].clamp(min=1).double()
        moments = memory["means"], memory["squares"]
        directions = adam_direction(*moments, g, config.betas, ok, steps)
        torch._foreach_div_(directions, corrections(config.betas[0], steps))
        return directions

    def _sizes_of(self, directions: Sequence[Tensor]) -> list[float]:
        """Return v_l of every layer at rate 1; read back, since the trials are many and small."""
        squares = torch.stack(list(torch._foreach_norm(list(directions)))).double() ** 2
        layer = torch.tensor(self._layer, device=squares.device)
        size = squares.new_zeros(len(self.layers)).index_add(0, layer, squares).sqrt()
        if self.config.per_weight:
            weights = torch.zeros_like(size).index_add(0, layer, self.sizes.to(squares))
            size = size / weights
        return read_back(size)()

    def _adjust(self, sizes: Sequence[float]) -> int:
        """Set rates such that the layers' changes ascend; return how many trials that took."""
        config, memory = self.config, self.memory
        low, high = config.lr / BOUND, config.lr * BOUND
        rates: list[float] = list(memory["rates"])
        moving = [n for n, size in enumerate(sizes) if size * rates[n] > 0]
        first = desired = None
        for trial in range(1, TRIALS + 1):
            change = [rates[n] * sizes[n] for n in moving]
            score = sortedness(change)
            first = score if first is None else first
            if score >= config.sorted_enough or trial == TRIALS:
                break
            if desired is None:
                desired = mended(change) if memory["started"] else evenly(change)
            for n, target, size in zip(moving, desired, change, strict=True):
                rates[n] = min(max(rates[n] * target / size, low), high)
        memory["rates"], memory["started"] = rates, memory["started"] or bool(moving)
        changes = [rate * size for rate, size in zip(rates, sizes, strict=True)]
        self.diagnostics = {
            "rates": torch.tensor(rates),
            "change": torch.tensor(changes),
            "sortedness": torch.tensor(first),
        }
        return trial


def layer_of(name: str) -> str:
    """Return the block of a parameter: its name up to the first number, else its module."""
    parts = name.split(".")
    number = next((n for n, part in enumerate(parts) if part.isdecimal()), None)
    return ".".join(parts[: number + 1] if number is not None else parts[:-1])


def sortedness(values: Sequence[float]) -> float:
    """Return 1 - 2 sum |l - rank of v_l| / n^2: 1 if values ascend, 0 if they descend (even n)."""
    order = sorted(range(len(values)), key=values.__getitem__)
    distance = sum(abs(place - index) for place, index in enumerate(order))
    return 1 - 2 * distance / max(len(values), 1) ** 2


def evenly(change: Sequence[float]) -> list[float]:
    """Return n values evenly from 3 min to 0.4 max, or from min to max where that descends."""
    low, high = LOWEST * min(change), HIGHEST * max(change)
    if low >= high:
        low, high = min(change), max(change)
    return [low + (high - low) * n / max(len(change) - 1, 1) for n in range(len(change))]


def mended(change: Sequence[float]) -> list[float]:
    """Return the values made ascending: violations are repaired from the middle outward."""
    gap = (max(change) - min(change)) / max(len(change) - 1, 1)
    wanted, least = list(change), min(change) / 100
    middle = len(wanted) // 2
    for n in range(middle, 0, -1):
        if wanted[n] < wanted[n - 1]:
            wanted[n - 1] = max(wanted[n] - gap, least)
    for n in range(middle, len(wanted) - 1):
        if wanted[n] > wanted[n + 1]:
            wanted[n + 1] = wanted[n] + gap
    return wanted
