"""PALM on the masked autoencoder: the head's uncertainty tells how fast each tensor may follow the
reconstruction loss.

No paper: it joins two. Online test-time training (Gandelsman et al., Test-Time Training with Masked
Autoencoders, NeurIPS 2022) moves the whole encoder at one rate along the reconstruction loss; PALM
(Maharana et al., AAAI 2025, arXiv 2403.10650) selects tensors and gives them rates, but has
entropy to learn from. Here, for each batch, with logits z of the head,
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
from typing import ClassVar

import torch
from torch import Tensor

from tttlib import ttt
from tttlib.adapt.common.adapter import Adapter, UpdateConfig, at_least, choose
from tttlib.adapt.common.losses import from_uniform
from tttlib.adapt.common.optimizers import EPS, finite, gated, normalised
from tttlib.models.mae import MaskedAutoencoder
from tttlib.runtime.devices import read_back


@dataclass(frozen=True, kw_only=True)
class PalmTttConfig(UpdateConfig):
    """Constants.

    lr           of a tensor with i_n = 1; the released rule is `ttt.scaled_lr(1e-2, masks)`
    masks        random masks of each image; mask_ratio of the patches are removed
    orders       images [B,3,H,W] -> patch orders [B masks,L], an image's masks side by side; None:
                 random ones
    finetune     as in `ttt.run`
    rates        "palm" | "fixed"
    optimizer    "sgd" (uses momentum) | "adam"
    alpha, temperature, threshold   alpha, T and eta
    freeze_unselected   tensors that are not selected in this batch stay
    predict_first       answer from before the update, as PALM does
    seed         of the masks
    """

    lr: float = ttt.scaled_lr(1e-2, 8)
    masks: int = 8
    mask_ratio: float = 0.75
    orders: Callable[[Tensor], Tensor] | None = None
    finetune: str = "encoder"
    rates: str = "palm"
    optimizer: str = "sgd"
    momentum: float = 0.9
    alpha: float = 0.5
    temperature: float = 50.0
    threshold: float = 0.1
    freeze_unselected: bool = False
    predict_first: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("momentum", "threshold"):
            at_least(name, getattr(self, name), 0)
        at_least("masks", self.masks, 1)
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha must lie in [0,1], not {self.alpha}")
        if not self.temperature > 0:
            raise ValueError(f"temperature must be positive, not {self.temperature}")
        choose("rates", self.rates, ("palm", "fixed"))
        choose("optimizer", self.optimizer, ("sgd", "adam"))
        choose("finetune", self.finetune, ttt.FINETUNE)


class PalmTtt(Adapter, name="palm_ttt"):
    """diagnostics, n tensors in the order of `trained`: score [n] (L1 norms of g), selected [n],
    importance [n] (i_n, 0 for a tensor that does not move), share_selected, share_moving (of all
    trained elements), loss_importance, loss (before the update)."""

    answer: ClassVar = "of the adapting network, after this batch's update unless predict_first"
    presets: ClassVar = {
        "cifar10-c": PalmTttConfig(),
        "cifar100-c": PalmTttConfig(alpha=0.9, temperature=100.0, threshold=0.025),
        "imagenet-c": PalmTttConfig(temperature=1000.0, threshold=2.5e-4),
    }

    def configure(self) -> list[str]:
        if not isinstance(self.model, MaskedAutoencoder) or self.model.head_type == "none":
            raise ValueError(
                f"palm_ttt reconstructs and classifies, so it needs a MaskedAutoencoder with a "
                f"head, not {type(self.model).__name__}; for a classifier use palm"
            )
        self.model.num_visible(self.config.mask_ratio)  # refuses a ratio that leaves nothing
        return list(ttt.trained_parameters(self.model, self.config.finetune))

    def make_optimizer(self) -> None:
        """State in the memory: sensitivities, rates and momenta of every tensor."""
        zeros = [torch.zeros_like(p, requires_grad=False) for p in self.parameters]
        fixed = self.config.rates == "fixed"
        self.memory["importance"] = [zero.sum() + fixed for zero in zeros]
        self.memory["known"] = [fixed] * len(zeros)
        if not fixed:
            self.memory["sensitivity"] = zeros  # E
        if self.config.optimizer == "sgd":
            self.memory["momenta"] = [torch.zeros_like(zero) for zero in zeros]

    def step(self, images: Tensor) -> Tensor:
        config = self.config
        self.diagnostics = {}
        logits = None
        chosen = list(range(len(self.parameters)))
        if config.rates == "palm":
            logits, chosen = self._choose(images)
        moving = [n for n, known in enumerate(self.memory["known"]) if known]
        if config.freeze_unselected:
            moving = chosen
        self._diagnose(moving)
        if config.predict_first and logits is None:
            logits = self.predict(images)
        if moving:
            self._update(moving, self._reconstruction(images))
        if config.predict_first:
            assert logits is not None
            return logits
        return self.predict(images)

    # -- PALM: which tensors, how fast -----------------------------------------------------------

    def _choose(self, images: Tensor) -> tuple[Tensor, list[int]]:
        """Logits, and the tensors that are selected; their sensitivities are updated."""
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
        if chosen:
            self._update_importance(chosen, [g[n] for n in chosen])
        return logits.detach(), chosen

    @torch.no_grad()
    def _update_importance(self, chosen: Sequence[int], g: list[Tensor]) -> None:
        """E, and i = mean (D + 1e-8) / (E + 1e-8), of the chosen tensors; spends g."""
        torch._foreach_mul_(g, [self.parameters[n] for n in chosen])
        torch._foreach_abs_(g)  # S
        e = [self.memory["sensitivity"][n] for n in chosen]
        torch._foreach_mul_(e, 1 - self.config.alpha)
        torch._foreach_add_(e, g, alpha=self.config.alpha)
        torch._foreach_sub_(g, e)
        torch._foreach_abs_(g)  # D
        torch._foreach_add_(g, EPS)
        torch._foreach_div_(g, torch._foreach_add(e, EPS))
        for n, ratio in zip(chosen, g, strict=True):
            self.memory["importance"][n] = ratio.mean()
            self.memory["known"][n] = True

    def _diagnose(self, moving: Sequence[int]) -> None:
        zero = self.sizes.new_zeros(())
        moves = set(moving)
        of = [i if n in moves else zero for n, i in enumerate(self.memory["importance"])]
        importance = torch.stack(of)
        self.diagnostics["importance"] = importance
        share = ((importance > 0) * self.sizes).sum() / self.sizes.sum()
        self.diagnostics["share_moving"] = share

    # -- test-time training: where to ------------------------------------------------------------

    def _reconstruction(self, images: Tensor) -> Tensor:
        config, model = self.config, self.model
        assert isinstance(model, MaskedAutoencoder)
        several = images.repeat_interleave(config.masks, 0)  # [B masks,3,H,W]
        if config.orders is not None:
            order = config.orders(images).to(images.device)
        else:
            order = model.random_order(len(several), self.generator, images.device)
        return model.reconstruction_loss(several, mask_ratio=config.mask_ratio, order=order)

    def _update(self, moving: Sequence[int], loss: Tensor) -> None:
        config = self.config
        those = [self.parameters[n] for n in moving]
        q = self.gradients(loss, those)
        self.diagnostics["loss"] = loss.detach()
        with torch.no_grad():
            ok, q = gated(q, those, config.weight_decay)
            if config.optimizer == "adam":
                directions = normalised(q)
            else:
                momenta = [self.memory["momenta"][n] for n in moving]
                torch._foreach_mul_(momenta, 1 - (1 - config.momentum) * ok)
                torch._foreach_add_(momenta, q)
                directions = [momentum.clone() for momentum in momenta]
            torch._foreach_mul_(directions, [self.memory["importance"][n] for n in moving])
            torch._foreach_mul_(directions, config.lr * ok)
            torch._foreach_sub_(those, directions)
