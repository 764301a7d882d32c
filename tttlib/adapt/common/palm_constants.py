"""Constants of PALM, and the switches between its code and its text.

variant="released" does as the code does, "paper" as the text says. The switches between them:
    target_scale      "ones" | "1/C": the uniform target. Code and paper. eta is meant for the first
                      and divided by C for the second, so the selection is the same
    lr_granularity    "tensor": the mean over the tensor | "element": i of each element
    freeze_unselected False: a tensor that was selected once keeps its last rate | True
    persistent_adam   False: a new Adam for each batch, that is q / (|q| + 1e-8) | True
    margin            0.4 nats | None, which is 0.4 ln C;   margin_inclusive: < | <=
    consistency_times_C   True | False
    weight_decay      5e-4 for CIFAR-100-C | 0
Where the text is ambiguous, the variant "paper" keeps to the code, and the switches are extra:
    kl_direction      "u||p": equation 2 and the code | "p||u": equation 1, KL(softmax(z/T) || u)
    selection_granularity  "tensor" | "layer": a layer's weight and bias are judged by their sum
    detach_target     False | True: no gradient through z in CE(z||z')
    entropy_mean      "selected" | "batch": the sum over reliable images divided by B
    reset_sensitivity True: `reset` forgets E and the rates | False, as the code
importance="pseudo-label" (table 7) takes L_u = mean_b -log softmax(z_b)[argmax z_b] instead.
optimizer="lars", "prodigy" or "adafactor" (table 6) trains everything on L with that optimiser and
without selection; the paper tells no settings: LARS 0.1, Prodigy 1, Adafactor 0.01 unless given.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tttlib.adapt.common.config import Fraction, NotNegative, Positive, UpdateConfig, ViewConfig

VARIANTS: dict[str, dict[str, Any]] = {
    "released": {},
    "paper": {
        "target_scale": "1/C",
        "lr_granularity": "element",
        "freeze_unselected": True,
        "persistent_adam": True,
        "margin": None,
        "margin_inclusive": True,
        "consistency_times_C": False,
        "weight_decay": 0.0,
    },
}
ONE_AT_A_TIME: dict[str, dict[str, Any]] = {
    "target 1/C": {"target_scale": "1/C"},
    "rates per element": {"lr_granularity": "element"},
    "unselected rest": {"freeze_unselected": True},
    "Adam persists": {"persistent_adam": True},
    "margin 0.4 ln C": {"margin": None},
    "consistency without C": {"consistency_times_C": False},
    "all: the paper's variant": {"variant": "paper"},
    "KL(p || u)": {"kl_direction": "p||u"},
    "selection by layer": {"selection_granularity": "layer"},
    "target detached": {"detach_target": True},
    "entropy over the batch": {"entropy_mean": "batch"},
}
"""Text against code: what changes the released variant into the paper's, then readings of it."""

PLAIN_LR = {"lars": 0.1, "prodigy": 1.0, "adafactor": 1e-2}


@dataclass(frozen=True, kw_only=True)
class PalmConfig(UpdateConfig, ViewConfig):
    """Constants; the switches are explained above."""

    lr: NotNegative = 5e-4  # kappa
    alpha: Fraction = 0.5  # weight of the current sensitivity
    temperature: Positive = 50.0  # T
    threshold: NotNegative = 1.0  # eta
    consistency: NotNegative = 0.01  # lambda
    importance: Literal["kl", "pseudo-label"] = "kl"
    optimizer: Literal["adam", "lars", "prodigy", "adafactor"] = "adam"
    betas: tuple[float, float] = (0.9, 0.999)
    variant: str = "released"
    kl_direction: Literal["u||p", "p||u"] = "u||p"
    target_scale: Literal["ones", "1/C"] = "ones"
    lr_granularity: Literal["tensor", "element"] = "tensor"
    selection_granularity: Literal["tensor", "layer"] = "tensor"
    freeze_unselected: bool = False
    persistent_adam: bool = False
    margin: float | None = 0.4
    margin_inclusive: bool = False
    consistency_times_C: bool = True
    detach_target: bool = False
    entropy_mean: Literal["selected", "batch"] = "selected"
    reset_sensitivity: bool = True


def constants_of(used: PalmConfig) -> dict[str, float]:
    """Return the constants of the ablations by their names in it; "eta x" is a factor of eta."""
    return {
        "temperature": used.temperature,
        "alpha": used.alpha,
        "lambda": used.consistency,
        "eta x": 1,
    }


def one_changed(
    used: PalmConfig, values: Mapping[str, Iterable[float]]
) -> dict[str, dict[str, float]]:
    """Return "CONSTANT VALUE" -> what to override, for each other value of each constant.

    The names are those of `constants_of`; values that are used already are passed over.
    """
    field = {"temperature": "temperature", "alpha": "alpha", "lambda": "consistency"}
    now, changed = constants_of(used), {}
    for name, tried in values.items():
        for value in sorted({*tried} - {now[name]}):
            what = {field[name]: value} if name in field else {"threshold": value * used.threshold}
            changed[f"{name} {value:g}"] = what
    return changed
