"""PALM in its plainest form, tensor by tensor: the place to read the algorithm first.

Paper: Maharana, Zhang and Guo, PALM: Pushing Adaptive Learning Rate Mechanisms for Continual
Test-Time Adaptation, AAAI 2025, arXiv 2403.10650. It is written after the formulas as the released
program uses them (`variant="released"` of `adapt.palm`): two backward passes to all tensors, each
tensor's score and rate read back, a dict of states, and for every batch a new Adam with one group a
tensor. Tests hold the fast version against it, and the benchmark times the two.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from tttlib.adapt.common.augmentation import NOISE, draw, jittered

EPS = 1e-8


def plain_view(images: Tensor, generator: torch.Generator) -> Tensor:
    """Return CoTTA's augmentation step by step, as `cotta_view` does at once.

    Parameters
    ----------
    images
        [B,3,H,W] in [0,1].
    generator
        On the CPU; the same draws as of `cotta_view`.
    """
    from torchvision.transforms import InterpolationMode  # here: slow to import
    from torchvision.transforms.v2 import functional as v2

    n = images.shape[-1]
    view = draw(n, generator)
    x = jittered(images.clamp(0, 1), view.jitter)
    x = v2.pad(x, [n // 2] * 4, padding_mode="edge")
    bilinear = InterpolationMode.BILINEAR
    shift = {"angle": view.degrees, "translate": list(view.shift), "scale": view.scale}
    x = v2.affine(x, **shift, shear=[0.0, 0.0], interpolation=bilinear, fill=0.0)
    x = v2.gaussian_blur(x, kernel_size=[5, 5], sigma=[view.sigma, view.sigma])
    x = v2.center_crop(x, [n, n])
    if view.flip:
        x = v2.horizontal_flip(x)
    random = torch.Generator(x.device).manual_seed(view.seed)
    noise = torch.randn(x.shape, generator=random, device=x.device, dtype=x.dtype)
    return (x + NOISE * noise).clamp(0, 1)


class PlainPalm:
    """PALM on a copy of a network: call it with each batch [B,3,H,W] for logits [B,C].

    The logits are from before the update.

    Attributes
    ----------
    scores, rates
        L1 norms of the gradients and learning rates in the last batch, by the tensor's name.
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
        """Answer a batch and adapt to it."""
        logits, view = self.model(images), self.model(self.augment(images))
        # Equations 1 and 2: divergence of the predictions from the uniform distribution
        uniform = -(logits / self.temperature).log_softmax(1).sum(1).mean()
        uniform.backward(retain_graph=True)
        for name, parameter in self.parameters.items():
            assert parameter.grad is not None
            # Equation 3: score by the L1 norm of the gradient, select the small ones
            self.scores[name] = parameter.grad.abs().sum().item()
            if self.scores[name] <= self.threshold:
                # Equations 4 to 6: sensitivity, its moving average, deviation from it
                s = (parameter * parameter.grad).abs().detach()
                before = self.sensitivity.get(name, torch.zeros_like(s))
                self.sensitivity[name] = (1 - self.alpha) * before + self.alpha * s
                self.deviation[name] = (s - self.sensitivity[name]).abs()
            # Equations 7 and 8: importance and learning rate
            self.rates[name] = self.lr * self._importance(name)
            parameter.grad = None
        groups = [{"params": [p], "lr": self.rates[n]} for n, p in self.parameters.items()]
        optimizer = torch.optim.Adam(groups, eps=EPS, weight_decay=self.weight_decay)
        # Equations 9 to 11: entropy of the reliable images, and consistency with the view
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
        """Return i = mean (D + eps) / (E + eps), 0 for a tensor that was never selected."""
        if name not in self.sensitivity:
            return 0.0
        ratio = (self.deviation[name] + EPS) / (self.sensitivity[name] + EPS)
        return ratio.mean().item()
