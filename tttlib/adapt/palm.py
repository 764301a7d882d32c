"""PALM: tensors whose gradient toward uniform predictions is small adapt, each at its own rate.

Paper: Maharana, Zhang and Guo, PALM: Pushing Adaptive Learning Rate Mechanisms for Continual
Test-Time Adaptation, AAAI 2025, arXiv 2403.10650. For each batch, with logits z, and z' of an
augmented view (equations 1 to 10):
    L_u = mean_b sum_c -log softmax(z_b / T)_c,   g_n = dL_u/dtheta_n
    selected: sum |g_n| <= eta
    S = |theta g|,   E <- alpha S + (1-alpha) E,   D = |S - E|        of the selected
    lr_n = kappa mean (D + 1e-8) / (E + 1e-8)
    L = mean over {b: H(z_b) < margin} of H(z_b) + lambda C CE(z||z')
    theta_n <- theta_n - lr_n q / (|q| + 1e-8),   q = dL/dtheta_n
Convolutions and norms can be selected, the linear classifier is frozen, BatchNorm layers use batch
statistics, and the logits are those from before the update.

variant="released" does as the code does, "paper" as the text says. The switches between them:
    target_scale      "ones" | "1/C": the uniform target. Code and paper. eta is meant for the first
                      and divided by C for the second, so the selection is the same
    lr_granularity    "tensor": the mean over the tensor | "element": D/E of each element
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

Deviations from the code in the arithmetic: none. Without a reliable image the entropy term is 0,
where the code has NaN with the gradient 0. The second backward pass goes to moving tensors only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from tttlib.adapt.common import parameters
from tttlib.adapt.common.adapter import Adapter, UpdateConfig, ViewConfig, at_least, choose
from tttlib.adapt.common.batch_norm import use_batch_statistics
from tttlib.adapt.common.convolutions import Tap, tapped
from tttlib.adapt.common.losses import cross_entropy, from_uniform, reliable_entropy
from tttlib.adapt.common.optimizers import EPS, Optimizer, PickedAdam, gated, make, normalised
from tttlib.runtime.devices import read_back

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
PART = 0.25
PLAIN_LR = {"lars": 0.1, "prodigy": 1.0, "adafactor": 1e-2}


@dataclass(frozen=True, kw_only=True)
class PalmConfig(UpdateConfig, ViewConfig):
    """lr: kappa; alpha: weight of the current sensitivity; threshold: eta; consistency: lambda."""

    lr: float = 5e-4
    alpha: float = 0.5
    temperature: float = 50.0
    threshold: float = 1.0
    consistency: float = 0.01
    importance: str = "kl"
    optimizer: str = "adam"
    betas: tuple[float, float] = (0.9, 0.999)
    variant: str = "released"
    kl_direction: str = "u||p"
    target_scale: str = "ones"
    lr_granularity: str = "tensor"
    selection_granularity: str = "tensor"
    freeze_unselected: bool = False
    persistent_adam: bool = False
    margin: float | None = 0.4
    margin_inclusive: bool = False
    consistency_times_C: bool = True
    detach_target: bool = False
    entropy_mean: str = "selected"
    reset_sensitivity: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("threshold", "consistency"):
            at_least(name, getattr(self, name), 0)
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha must lie in [0,1], not {self.alpha}")
        if not self.temperature > 0:
            raise ValueError(f"temperature must be positive, not {self.temperature}")
        choose("importance", self.importance, ("kl", "pseudo-label"))
        choose("optimizer", self.optimizer, ("adam", *PLAIN_LR))
        choose("variant", self.variant, tuple(VARIANTS))
        choose("kl_direction", self.kl_direction, ("u||p", "p||u"))
        choose("target_scale", self.target_scale, ("ones", "1/C"))
        for name in ("lr_granularity", "selection_granularity"):
            legal = ("tensor", "element" if name.startswith("lr") else "layer")
            choose(name, getattr(self, name), legal)
        choose("entropy_mean", self.entropy_mean, ("selected", "batch"))


class Palm(Adapter, name="palm"):
    """diagnostics, n tensors in the order of `trained`:

    score       [n] L1 norms of g; of a convolution that is not selected perhaps only a lower bound
    selected    [n] bool
    lr          [n] lr_n (mean over the elements), 0 for a tensor that does not move
    importance  [n] lr_n / kappa               reliable    number of reliable images
    share_selected, share_moving  of all trained elements: in selected tensors, in moving ones
    loss_importance, loss         L_u and L (only its entropy when nothing moves)
    """

    presets: ClassVar = {
        "cifar10-c": PalmConfig(),
        "cifar100-c": PalmConfig(alpha=0.9, temperature=100, threshold=0.5, weight_decay=5e-4),
        "imagenet-c": PalmConfig(lr=5e-5, temperature=1000, threshold=0.3),
    }

    @classmethod
    def settings(cls, preset: str | None, overrides: Mapping[str, Any]) -> PalmConfig:
        overrides = cls.legal(overrides)
        variant = overrides.get("variant", "released")
        choose("variant", variant, tuple(VARIANTS))
        optimizer = overrides.get("optimizer", "adam")
        plain = {"lr": PLAIN_LR[optimizer]} if optimizer in PLAIN_LR else {}
        return replace(cls.preset(preset), **{**VARIANTS[variant], **plain, **overrides})

    # -- which parameters, which state -----------------------------------------------------------

    def configure(self) -> list[str]:
        use_batch_statistics(self.model)
        names = parameters.convolutions_and_norms(self.model)
        if not names:
            raise ValueError(
                "palm trains convolutions and normalisation layers, and this model has none; "
                "use source"
            )
        return names

    def make_optimizer(self) -> Optimizer | None:
        if self.config.optimizer != "adam":
            return make(self.parameters, self.config)
        by_element = self.config.lr_granularity == "element"
        zeros = [torch.zeros_like(p, requires_grad=False) for p in self.parameters]
        self.memory["sensitivity"] = zeros  # E
        self.memory["importance"] = [torch.zeros_like(e if by_element else e.sum()) for e in zeros]
        self.memory["known"] = [False] * len(zeros)  # selected at least once
        self.memory["last"] = [False] * len(zeros)  # selected in the last batch
        layers = [name.rpartition(".")[0] for name in self.trained]
        index = [list(dict.fromkeys(layers)).index(layer) for layer in layers]
        self._layer = torch.tensor(index, device=self.sizes.device)
        return (
            PickedAdam(self.parameters, self.config.betas) if self.config.persistent_adam else None
        )

    def reset(self) -> None:
        kept = self.memory
        super().reset()
        if not self.config.reset_sensitivity:
            self.memory = kept

    # -- one batch -------------------------------------------------------------------------------

    def step(self, images: Tensor) -> Tensor:
        if self.config.optimizer != "adam":
            return self._plain_step(images)
        with tapped(self.model) as taps:
            logits = self.model(images)
        loss_importance = self._importance_loss(logits)
        view = self.augment(images) if self.config.consistency else None
        score, selected, g = self._select(loss_importance, logits.shape[1], taps)
        chosen = [n for n, is_chosen in enumerate(self.memory["last"]) if is_chosen]
        self._update_importance(chosen, g)
        del g
        moving = self._moving(chosen)
        loss, reliable = self._loss(logits, view, bool(moving))
        self._diagnose(moving, score=score, selected=selected)
        self.diagnostics |= {"loss_importance": loss_importance.detach(), "loss": loss.detach()}
        self.diagnostics["reliable"] = reliable.sum()
        if moving:
            self._update(moving, loss)
        return logits

    def _importance_loss(self, logits: Tensor) -> Tensor:
        """L_u, whose gradient selects."""
        config = self.config
        if config.importance == "pseudo-label":
            return F.cross_entropy(logits, logits.argmax(1))
        loss = from_uniform(logits / config.temperature, config.kl_direction)
        return loss * logits.shape[1] if config.target_scale == "ones" else loss

    def _select(
        self, loss: Tensor, classes: int, taps: dict[str, Tap]
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Scores [n], who is selected: bool [n], and g, of those who are not perhaps in part.

        A convolution that was not selected last time is tried with PART of its gradient: if that
        is too large, so is the whole.
        """
        last = self.memory["last"]
        found = [taps.get(name) for name in self.trained]
        found = [tap if tap is not None and tap.usable else None for tap in found]
        at = [p if tap is None else tap.y for tap, p in zip(found, self.parameters, strict=True)]
        g = self.gradients(loss, at, again=True)
        at_output = {n: g[n] for n, tap in enumerate(found) if tap is not None}
        for n, dy in at_output.items():
            g[n] = found[n].gradient(dy, 1.0 if last[n] else PART)  # type: ignore[union-attr]
        tried = {n for n in at_output if not last[n]}
        while True:
            score = torch.stack(list(torch._foreach_norm(g, ord=1)))  # [n]
            selected = self._selected(score, classes)
            self.memory["last"] = last = read_back(selected)()
            unsure = [n for n in tried if last[n]]
            if not unsure:
                return score, selected, g
            for n in unsure:
                g[n] = found[n].gradient(at_output[n])  # type: ignore[union-attr]
            tried = set()

    def _selected(self, score: Tensor, classes: int) -> Tensor:
        """bool [n]; a gradient that is not finite selects nothing."""
        if self.config.selection_granularity == "layer":
            score = torch.zeros_like(score).index_add(0, self._layer, score)[self._layer]
        scaled = self.config.importance == "kl" and self.config.target_scale == "1/C"
        return score <= self.config.threshold / (classes if scaled else 1)

    @torch.no_grad()
    def _update_importance(self, chosen: Sequence[int], g: Sequence[Tensor]) -> None:
        """E and i = (D + 1e-8) / (E + 1e-8) of the chosen tensors; spends their g."""
        if not chosen:
            return
        alpha, memory = self.config.alpha, self.memory
        s = [g[n] for n in chosen]
        torch._foreach_mul_(s, [self.parameters[n] for n in chosen])
        torch._foreach_abs_(s)  # S
        e = [memory["sensitivity"][n] for n in chosen]
        torch._foreach_mul_(e, 1 - alpha)
        torch._foreach_add_(e, s, alpha=alpha)
        torch._foreach_sub_(s, e)
        torch._foreach_abs_(s)  # D
        torch._foreach_add_(s, EPS)
        torch._foreach_div_(s, torch._foreach_add(e, EPS))
        if self.config.lr_granularity == "tensor":
            s = [ratio.mean() for ratio in s]
        torch._foreach_copy_([memory["importance"][n] for n in chosen], s)
        for n in chosen:
            memory["known"][n] = True

    def _moving(self, chosen: Sequence[int]) -> list[int]:
        """The tensors that this batch moves."""
        if self.config.freeze_unselected:
            return list(chosen)
        return [n for n, known in enumerate(self.memory["known"]) if known]

    def _diagnose(self, moving: Sequence[int], *, score: Tensor, selected: Tensor) -> None:
        of, zero = self.memory["importance"], self.sizes.new_zeros(())
        moves = [n in set(moving) for n in range(len(of))]
        means = torch.stack([i.mean() if m else zero for i, m in zip(of, moves, strict=True)])
        total = self.sizes.sum()
        self.diagnostics = {
            "score": score,
            "selected": selected,
            "importance": means,
            "lr": self.config.lr * means,
            "share_selected": (selected * self.sizes).sum() / total,
            "share_moving": ((means > 0) * self.sizes).sum() / total,
        }

    def _loss(self, logits: Tensor, view: Tensor | None, whole: bool) -> tuple[Tensor, Tensor]:
        """L, which adapts, and the reliable images; without its second term unless `whole`."""
        config = self.config
        loss, reliable = reliable_entropy(
            logits, config.margin, inclusive=config.margin_inclusive, over=config.entropy_mean
        )
        if view is not None and whole:
            weight = config.consistency * (logits.shape[1] if config.consistency_times_C else 1)
            target = logits.detach() if config.detach_target else logits
            loss = loss + weight * cross_entropy(target, self.model(view))
        return loss, reliable

    def _update(self, moving: Sequence[int], loss: Tensor) -> None:
        config = self.config
        those = [self.parameters[n] for n in moving]
        q = self.gradients(loss, those)
        with torch.no_grad():
            ok, q = gated(q, those, config.weight_decay)
            if isinstance(self.optimizer, PickedAdam):
                directions = self.optimizer.directions(moving, q, ok)
            else:
                directions = normalised(q)
            importance = [self.memory["importance"][n] for n in moving]
            torch._foreach_mul_(directions, importance)
            torch._foreach_mul_(directions, config.lr * ok)
            torch._foreach_sub_(those, directions)

    def _plain_step(self, images: Tensor) -> Tensor:
        """Table 6: everything follows L with one optimiser."""
        logits = self.model(images)
        view = self.augment(images) if self.config.consistency else None
        loss, reliable = self._loss(logits, view, True)
        assert self.optimizer is not None
        self.optimizer.step(self.gradients(loss))
        self.diagnostics = {"loss": loss.detach(), "reliable": reliable.sum()}
        return logits
