"""PALM on the masked autoencoder: the head's uncertainty sets the rates of the reconstruction.

No paper: it joins two. Online test-time training (Gandelsman et al., Test-Time Training with Masked
Autoencoders, NeurIPS 2022) moves the whole encoder at one rate along the reconstruction loss; PALM
(Maharana et al., AAAI 2025, arXiv 2403.10650) selects tensors and gives them rates, but has
entropy to learn from. `tttlib/reference/palm.py` and `ttt.py` there are both in their plainest
form. Here, for each batch, with logits z of the head,
    L_u = mean_b mean_c -log softmax(z_b / T)_c,   g_n = dL_u/dtheta_n      (PALM, equation 2)
    selected: sum |g_n| <= eta
    S = |theta g|,   E <- alpha S + (1-alpha) E,   D = |S - E|              of the selected
    i_n = mean (D + 1e-8) / (E + 1e-8)
    L = mean over images and random masks of the reconstruction loss,   q_n = dL/dtheta_n
    "sgd": m_n <- mu m_n + q_n, theta_n <- theta_n - lr i_n m_n
    "adam": theta_n <- theta_n - lr i_n q_n / (|q_n| + 1e-8), PALM's new Adam for each batch
The answer is given after the update, as in test-time training. A batch of one image is that
method's step; larger ones make one update for all of their images.

rates="fixed" sets i_n = 1 and selects everything: plain online test-time training, the control.
Trained are the tensors of `ttt.run` (`finetune`). Those that the logits do not depend on, the mask
token and the decoder, have g = 0 and thereby i = 1. As in PALM's code a tensor that was selected
once keeps its last rate unless freeze_unselected. eta is for the mean over classes, as in PALM's
text; its code sums. Scores fall with T^2, and so do the presets' eta. They are starting points and
not tuned: on the four-block network of the scenes 0.1 selects biases, norms and about half of the
matrices when images come one at a time, and nearly everything in batches of 20.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from tttlib import ttt
from tttlib.adapt.common.adapter import Adapter, UpdateConfig
from tttlib.adapt.common.config import AdamOrSgd, Count, Fraction, NotNegative, Positive
from tttlib.adapt.common.losses import from_uniform
from tttlib.adapt.common.optimizers import (
    finite,
    gated,
    move,
    normalised,
    sgd_direction,
    zeros_like,
)
from tttlib.adapt.common.sensitivity import moving_tensors, rates_of, update_importance
from tttlib.models.mae import MaskedAutoencoder
from tttlib.runtime.devices import read_back

RATE = ttt.scaled_lr(1e-2, 8)  # the released rule


@dataclass(frozen=True, kw_only=True)
class PalmTttConfig(UpdateConfig):
    """Constants.

    Attributes
    ----------
    lr
        Of a tensor with i_n = 1; the released rule is `ttt.scaled_lr(1e-2, masks)`.
    masks
        Random masks of each image.
    mask_ratio
        Share of the patches that are removed.
    orders
        Maps images [B,3,H,W] to patch orders [B masks,L], an image's masks side by side; None
        draws random ones.
    finetune
        As in `ttt.run`.
    rates
        "palm" or "fixed".
    optimizer
        "sgd", which uses `momentum`, or "adam".
    alpha, temperature, threshold
        alpha, T and eta.
    freeze_unselected
        Whether tensors that are not selected in this batch stay.
    predict_first
        Whether the answer is from before the update, as in PALM.
    seed
        Of the masks.
    """

    lr: NotNegative = RATE
    masks: Count = 8
    mask_ratio: float = 0.75
    orders: Callable[[Tensor], Tensor] | None = None
    finetune: Literal["encoder", "all", "encoder_no_cls_no_msk"] = "encoder"
    rates: Literal["palm", "fixed"] = "palm"
    optimizer: AdamOrSgd = "sgd"
    momentum: NotNegative = 0.9
    alpha: Fraction = 0.5
    temperature: Positive = 50.0
    threshold: NotNegative = 0.1
    freeze_unselected: bool = False
    predict_first: bool = False
    seed: int = 0


class PalmTtt(Adapter, name="palm_ttt"):
    """Diagnostics, n tensors in the order of `trained`.

    score, selected
        [n] L1 norms of g, and bool.
    importance
        [n] i_n, 0 for a tensor that does not move.
    share_selected, share_moving
        Shares of all trained elements: in selected tensors, in moving ones.
    loss_importance, loss
        L_u and L, from before the update.
    """

    trains: ClassVar = "encoder"
    answer: ClassVar = "of the adapting network, after this batch's update unless predict_first"
    needs = ("self-supervision",)
    presets: ClassVar = {
        "cifar10-c": PalmTttConfig(),
        "cifar100-c": PalmTttConfig(alpha=0.9, temperature=100.0, threshold=0.025),
        "imagenet-c": PalmTttConfig(temperature=1000.0, threshold=2.5e-4),
    }
    model: MaskedAutoencoder

    def configure(self) -> list[str]:
        """Train what `ttt.run` does; refuse networks that cannot reconstruct and classify."""
        if not isinstance(self.model, MaskedAutoencoder) or self.model.head_type == "none":
            raise ValueError(
                f"palm_ttt reconstructs and classifies, so it needs a MaskedAutoencoder with a "
                f"head, not {type(self.model).__name__}; for a classifier use palm"
            )
        self.model.num_visible(self.config.mask_ratio)  # refuses a ratio that leaves nothing
        return list(ttt.trained_parameters(self.model, self.config.finetune))

    def make_optimizer(self) -> None:
        """Prepare the memory: sensitivities, rates and momenta of every tensor."""
        zeros = zeros_like(self.parameters)
        fixed = self.config.rates == "fixed"
        self.memory["importance"] = [zero.sum() + fixed for zero in zeros]
        self.memory["known"] = [fixed] * len(zeros)
        if not fixed:
            self.memory["sensitivity"] = zeros  # E
        if self.config.optimizer == "sgd":
            self.memory["momenta"] = zeros_like(zeros)

    def step(self, images: Tensor) -> Tensor:
        """Give tensors rates by the head's uncertainty, follow the reconstruction, and answer."""
        config, memory = self.config, self.memory
        self.diagnostics = {}
        chosen = list(range(len(self.parameters)))
        before = None
        if config.rates == "palm":
            before, chosen = self._select(images)
        elif config.predict_first:
            before = self.predict(images)
        moving = moving_tensors(memory, chosen, config.freeze_unselected)
        self.diagnostics |= rates_of(memory, moving, self.sizes)
        if moving:
            self._update(moving, self._reconstruction(images))
        return before if config.predict_first and before is not None else self.predict(images)

    def _select(self, images: Tensor) -> tuple[Tensor, list[int]]:
        """Return logits and the selected tensors, whose sensitivities are updated."""
        logits = self.model(images)
        loss = from_uniform(logits / self.config.temperature)
        g = self.gradients(loss)
        score = torch.stack(list(torch._foreach_norm(g, ord=1)))  # [n]
        selected = (score <= self.config.threshold) & finite(g)
        self.diagnostics |= {
            "score": score,
            "selected": selected,
            "share_selected": (selected * self.sizes).sum() / self.sizes.sum(),
            "loss_importance": loss.detach(),
        }
        chosen = [n for n, is_chosen in enumerate(read_back(selected)()) if is_chosen]
        update_importance(self.memory, chosen, g, self.parameters, alpha=self.config.alpha)
        return logits.detach(), chosen

    def _reconstruction(self, images: Tensor) -> Tensor:
        """Return the reconstruction loss over several masks of each image."""
        config = self.config
        several = images.repeat_interleave(config.masks, 0)  # [B masks,3,H,W]
        if config.orders is not None:
            order = config.orders(images).to(images.device)
        else:
            order = self.model.random_order(len(several), self.generator, images.device)
        return self.model.reconstruction_loss(several, mask_ratio=config.mask_ratio, order=order)

    def _update(self, moving: Sequence[int], loss: Tensor) -> None:
        """Move tensors down the gradient of the reconstruction loss, each at its rate."""
        config = self.config
        tensors = [self.parameters[n] for n in moving]
        q = self.gradients(loss, tensors)
        self.diagnostics["loss"] = loss.detach()
        with torch.no_grad():
            ok, q = gated(q, tensors, config.weight_decay)
            if config.optimizer == "adam":
                directions = normalised(q)
            else:
                momenta = [self.memory["momenta"][n] for n in moving]
                directions = sgd_direction(momenta, q, config.momentum, False, ok)
            importance = [self.memory["importance"][n] for n in moving]
            move(tensors, directions, importance, config.lr * ok)
