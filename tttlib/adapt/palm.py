"""PALM: tensors whose gradient toward uniform predictions is small adapt, each at its own rate.

Paper: Maharana, Zhang and Guo, PALM: Pushing Adaptive Learning Rate Mechanisms for Continual
Test-Time Adaptation, AAAI 2025, arXiv 2403.10650. Read `tttlib/reference/palm.py` first: the same
without switches and without care for speed. For each batch, with logits z, and z' of an augmented
view (1, 2 and 7 to 10 are the paper's numbers, the others follow from the order of its text):
    (1, 2)  L_u = mean_b sum_c -log softmax(z_b / T)_c,   g_n = dL_u/dtheta_n
    (3)     selected: sum |g_n| <= eta
    (4)     S = |theta g|                                  of the selected
    (5)     E <- alpha S + (1-alpha) E
    (6)     D = |S - E|
    (7)     i = (D + 1e-8) / (E + 1e-8)
    (8)     lr_n = kappa mean i
    (9)     L_ent = mean over {b: H(z_b) < margin} of H(z_b)
    (10)    L_cons = CE(z||z')
    (11)    L = L_ent + lambda C L_cons,   q = dL/dtheta_n,   theta_n <- theta_n - lr_n q/(|q|+1e-8)
Convolutions and norms can be selected, the linear classifier is frozen, BatchNorm layers use batch
statistics, and the logits are those from before the update.

variant="released" does as the code does, "paper" as the text says; `common/palm_constants.py` has
the switches. Deviations from the code in the arithmetic: none. Without a reliable image the entropy
term is 0, where the code has NaN with the gradient 0. Gradients that no decision needs are not
computed: the second backward pass goes to moving tensors only, and `common/partial_gradients.py`
says "not selected" early.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from tttlib.adapt.common import optimizers, parameters
from tttlib.adapt.common.adapter import Adapter
from tttlib.adapt.common.batch_norm import use_batch_statistics
from tttlib.adapt.common.losses import cross_entropy, from_uniform, reliable_entropy
from tttlib.adapt.common.palm_constants import PLAIN_LR, VARIANTS, PalmConfig
from tttlib.adapt.common.partial_gradients import select_by_norm, tapped
from tttlib.adapt.common.sensitivity import moving_tensors, rates_of, update_importance


class Palm(Adapter, name="palm"):
    """Diagnostics, n tensors in the order of `trained`.

    score
        [n] L1 norms of g; of a convolution that is not selected perhaps only a lower bound.
    selected
        [n] bool.
    lr, importance
        [n] lr_n and lr_n / kappa (means over the elements), 0 for a tensor that does not move.
    reliable
        Number of reliable images.
    share_selected, share_moving
        Shares of all trained elements: in selected tensors, in moving ones.
    loss_importance, loss
        L_u and L (only its entropy when nothing moves).
    """

    trains: ClassVar = "convolutions and normalisation layers"
    presets: ClassVar = {
        "cifar10-c": PalmConfig(),
        "cifar100-c": PalmConfig(alpha=0.9, temperature=100, threshold=0.5, weight_decay=5e-4),
        "imagenet-c": PalmConfig(lr=5e-5, temperature=1000, threshold=0.3),
    }
    variants: ClassVar = VARIANTS

    @classmethod
    def settings(cls, preset: str | None, overrides: Mapping[str, Any]) -> PalmConfig:
        """Return the constants; the optimisers of table 6 have learning rates of their own."""
        optimizer = overrides.get("optimizer")
        own = {"lr": PLAIN_LR[optimizer]} if optimizer in PLAIN_LR else {}
        return super().settings(preset, {**own, **overrides})

    def configure(self) -> list[str]:
        """Train convolutions and norms, with batch statistics."""
        use_batch_statistics(self.model)
        return parameters.convolutions_and_norms(self.model)

    def make_optimizer(self) -> optimizers.Optimizer | None:
        """Prepare the memory, and the optimisers that last over the stream."""
        if self.config.optimizer != "adam":
            return optimizers.make(self.parameters, self.config)
        by_element = self.config.lr_granularity == "element"
        zeros = optimizers.zeros_like(self.parameters)
        self.memory["sensitivity"] = zeros  # E
        self.memory["importance"] = [torch.zeros_like(e if by_element else e.sum()) for e in zeros]
        self.memory["known"] = [False] * len(zeros)  # selected at least once
        self.memory["last"] = [False] * len(zeros)  # selected in the last batch
        layers = [name.rpartition(".")[0] for name in self.trained]
        index = [list(dict.fromkeys(layers)).index(layer) for layer in layers]
        self._layer = torch.tensor(index, device=self.sizes.device)
        if self.config.persistent_adam:
            return optimizers.PickedAdam(self.parameters, self.config.betas)
        return None

    def reset(self) -> None:
        """Go back to the state after construction, with `reset_sensitivity=False` but for E, i."""
        kept = self.memory
        super().reset()
        if not self.config.reset_sensitivity:
            self.memory = kept

    def step(self, images: Tensor) -> Tensor:
        """Answer a batch, select tensors, give them rates, and follow L."""
        config, memory = self.config, self.memory
        if config.optimizer != "adam":
            return self._plain_step(images)
        with tapped(self.model) as taps:
            logits = self.model(images)
        view = self.augment(images) if config.consistency else None
        # Equations 1 and 2: divergence from the uniform distribution
        divergence = self._divergence(logits)
        # Equation 3: select tensors by the L1 norm of its gradient
        score, selected, memory["last"], g = select_by_norm(
            divergence,
            dict(zip(self.trained, self.parameters, strict=True)),
            taps,
            likely=memory["last"],
            judge=lambda score: self._selected(score, classes=logits.shape[1]),
        )
        chosen = [n for n, is_chosen in enumerate(memory["last"]) if is_chosen]
        # Equations 4 to 7: sensitivity, its average, deviation and importance
        by_element = config.lr_granularity == "element"
        how = {"alpha": config.alpha, "by_element": by_element}
        update_importance(memory, chosen, g, self.parameters, **how)
        del g
        # Equation 8: a learning rate for every tensor
        moving = moving_tensors(memory, chosen, config.freeze_unselected)
        rates = rates_of(memory, moving, self.sizes)
        # Equations 9 to 11: entropy of reliable images and consistency
        loss, reliable = self._loss(logits, view if moving else None)
        if moving:
            self._update(moving, loss)
        self.diagnostics = {
            **rates,
            "lr": config.lr * rates["importance"],
            "score": score,
            "selected": selected,
            "share_selected": (selected * self.sizes).sum() / self.sizes.sum(),
            "loss_importance": divergence.detach(),
            "loss": loss.detach(),
            "reliable": reliable.sum(),
        }
        return logits

    def _divergence(self, logits: Tensor) -> Tensor:
        """Return L_u (equations 1 and 2, or table 7), whose gradient selects."""
        config = self.config
        if config.importance == "pseudo-label":
            return F.cross_entropy(logits, logits.argmax(1))
        loss = from_uniform(logits / config.temperature, config.kl_direction)
        return loss * logits.shape[1] if config.target_scale == "ones" else loss

    def _selected(self, score: Tensor, *, classes: int) -> Tensor:
        """Return who is selected, bool [n] (equation 3); never one whose score is not finite."""
        if self.config.selection_granularity == "layer":
            score = torch.zeros_like(score).index_add(0, self._layer, score)[self._layer]
        scaled = self.config.importance == "kl" and self.config.target_scale == "1/C"
        return score <= self.config.threshold / (classes if scaled else 1)

    def _loss(self, logits: Tensor, view: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return L (equations 9 to 11; without a view only its entropy) and who is reliable."""
        config = self.config
        which = {"inclusive": config.margin_inclusive, "over": config.entropy_mean}
        loss, reliable = reliable_entropy(logits, config.margin, **which)
        if view is not None:
            weight = config.consistency * (logits.shape[1] if config.consistency_times_C else 1)
            target = logits.detach() if config.detach_target else logits
            loss = loss + weight * cross_entropy(target, self.model(view))
        return loss, reliable

    def _update(self, moving: Sequence[int], loss: Tensor) -> None:
        """Move tensors along Adam's direction, each at its rate."""
        tensors = [self.parameters[n] for n in moving]
        q = self.gradients(loss, tensors)
        with torch.no_grad():
            ok, q = optimizers.gated(q, tensors, self.config.weight_decay)
            if isinstance(self.optimizer, optimizers.PickedAdam):
                directions = self.optimizer.directions(moving, q, ok)
            else:
                directions = optimizers.normalised(q)
            importance = [self.memory["importance"][n] for n in moving]
            optimizers.move(tensors, directions, importance, self.config.lr * ok)

    def _plain_step(self, images: Tensor) -> Tensor:
        """Follow L with one optimiser for everything (table 6)."""
        logits = self.model(images)
        view = self.augment(images) if self.config.consistency else None
        loss, reliable = self._loss(logits, view)
        self.learn(loss)
        self.diagnostics = {"loss": loss.detach(), "reliable": reliable.sum()}
        return logits
