"""PALM the obvious way, tensor by tensor: what `adapt.palm` is held against.

Written after the formulas of the paper as its program uses them: two backward passes to all
tensors, each tensor's score and rate read back, a dict of states, and for every batch a new Adam
with one group a tensor. The benchmark times it and the tests take it for the truth.

Source: Maharana, Zhang and Guo, AAAI 2025, arXiv 2403.10650; `variant="released"` of `adapt.palm`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from tttlib.adapt.common.augmentation import NOISE, draw, jittered

EPS = 1e-8


def plain_view(images: Tensor, generator: torch.Generator) -> Tensor:
    """CoTTA's augmentation step by step: `adapt.augmentation.cotta_view` of the same generator.

    images  [B,3,H,W] in [0,1]
    """
    from torchvision.transforms import InterpolationMode  # here: slow to import
    from torchvision.transforms.v2 import functional as v2

    n = images.shape[-1]
    view = draw(n, generator)
    x = jittered(images.clamp(0, 1), view.jitter)
    x = v2.pad(x, [n // 2] * 4, padding_mode="edge")
    x = v2.affine(
        x,
        angle=view.degrees,
        translate=list(view.shift),
        scale=view.scale,
        shear=[0.0, 0.0],
        interpolation=InterpolationMode.BILINEAR,
        fill=0.0,
    )
    x = v2.gaussian_blur(x, kernel_size=[5, 5], sigma=[view.sigma, view.sigma])
    x = v2.center_crop(x, [n, n])
    if view.flip:
        x = v2.horizontal_flip(x)
    noise = torch.randn(
        x.shape,
        generator=torch.Generator(x.device).manual_seed(view.seed),
        device=x.device,
        dtype=x.dtype,
    )
    return (x + NOISE * noise).clamp(0, 1)


class PlainPalm:
    """One call for each batch [B,3,H,W]: logits [B,C] from before the update.

    scores, rates  of the last batch: L1 norms and learning rates by the tensor's name
    """

    def __init__(
        self,
        model: nn.Module,
        augment: Callable[[Tensor], Tensor],
        *,
        lr: float = 5e-4,
        alpha: float = 0.5,
        temperature: float = 50.0,
        threshold: float = 1.0,
        consistency: float = 0.01,
        weight_decay: float = 0.0,
        margin: float = 0.4,
    ) -> None:
        self.model, self.augment = copy.deepcopy(model).eval().requires_grad_(False), augment
        self.lr, self.alpha, self.temperature, self.threshold = lr, alpha, temperature, threshold
        self.consistency, self.weight_decay, self.margin = consistency, weight_decay, margin
        for module in self.model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.track_running_stats = False
                module.running_mean = module.running_var = None
            if isinstance(module, nn.BatchNorm2d | nn.Conv2d):
                module.requires_grad_(True)
        self.parameters = {n: p for n, p in self.model.named_parameters() if p.requires_grad}
        self.sensitivity: dict[str, Tensor] = {}
        self.deviation: dict[str, Tensor] = {}
        self.scores: dict[str, float] = {}
        self.rates: dict[str, float] = {}

    def __call__(self, images: Tensor) -> Tensor:
        logits, view = self.model(images), self.model(self.augment(images))
        uniform = -(logits / self.temperature).log_softmax(1).sum(1).mean()
        uniform.backward(retain_graph=True)
        for name, parameter in self.parameters.items():
            assert parameter.grad is not None
            self.scores[name] = parameter.grad.abs().sum().item()
            if self.scores[name] <= self.threshold:
                s = (parameter * parameter.grad).abs().detach()
                before = self.sensitivity.get(name, torch.zeros_like(s))
                self.sensitivity[name] = (1 - self.alpha) * before + self.alpha * s
                self.deviation[name] = (s - self.sensitivity[name]).abs()
            self.rates[name] = self.lr * self._importance(name)
            parameter.grad = None
        groups = [{"params": [p], "lr": self.rates[n]} for n, p in self.parameters.items()]
        optimizer = torch.optim.Adam(groups, eps=EPS, weight_decay=self.weight_decay)
        log_p, log_view = logits.log_softmax(1), view.log_softmax(1)
        entropies = -(log_p.exp() * log_p).sum(1)
        loss = -(log_p.exp() * log_view).sum(1).mean() * self.consistency * logits.shape[1]
        reliable = entropies[entropies < self.margin]
        if len(reliable):
            loss = loss + reliable.mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return logits.detach()

    def _importance(self, name: str) -> float:
        """i of a tensor: mean (D + eps) / (E + eps), 0 before it is selected."""
        if name not in self.sensitivity:
            return 0.0
        ratio = (self.deviation[name] + EPS) / (self.sensitivity[name] + EPS)
        return ratio.mean().item()
