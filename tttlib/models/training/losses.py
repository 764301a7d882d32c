"""The loss of a training phase, and which parameters and optimiser go with it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tttlib.models.rotation_net import TURNS, rotated
from tttlib.models.training.recipes import Phase

LABEL_SMOOTHING = 0.1


def phase_loss(model: Any, phase: Phase, x: Tensor, y: Tensor, random: torch.Generator) -> Tensor:
    """Return the loss (scalar) of images x [B,3,H,W] in [0,1] with labels y [B] in a phase."""
    if phase.loss == "supervised":
        return F.cross_entropy(model(x).float(), y)
    if phase.loss == "rotation":
        turns = torch.randint(TURNS, (len(x),), generator=random).to(x.device)
        rotation = F.cross_entropy(model.rotation_logits(rotated(x, turns)).float(), turns)
        return F.cross_entropy(model(x).float(), y) + rotation
    if phase.loss == "probe":
        with torch.no_grad():
            tokens = model.tokens(x)
        return _cross_entropy(model.classify_tokens(tokens), y)
    order = model.random_order(len(x), random, x.device)
    if phase.loss == "mae":
        return model.reconstruction_loss(x, mask_ratio=phase.mask_ratio, order=order)
    if phase.class_mask_ratio == 0:
        reconstruction = model.reconstruction_loss(x, mask_ratio=phase.mask_ratio, order=order)
        return reconstruction + _cross_entropy(model.classify(x), y)
    # joint, with one encoder pass on the visible patches for both branches
    visible = order[:, : model.num_visible(phase.mask_ratio)]
    tokens = model.tokens(x, visible)  # [B,1+V,D]
    removed = order[:, visible.shape[1] :, None]
    prediction = model.decode(tokens, order).to(x.dtype)
    error = (prediction - model.target(x)).square().mean(-1, keepdim=True)
    logits = model.classify_tokens(tokens, visible)
    return error.gather(1, removed).mean() + _cross_entropy(logits, y)


def phase_parameters(model: Any, phase: Phase) -> list[torch.nn.Parameter]:
    """Switch gradients for the phase and return the parameters that train.

    Probing freezes all but the classifier, pretraining freezes the classifier.
    """
    if phase.loss in ("supervised", "rotation"):
        return list(model.parameters())
    for name, parameter in model.named_parameters():
        is_head = name.startswith(("classifier", "head."))
        trains = is_head if phase.loss == "probe" else (phase.loss == "joint" or not is_head)
        parameter.requires_grad_(trains and not name.endswith("pos_embed"))
    return [p for p in model.parameters() if p.requires_grad]


def phase_optimizer(parameters: list[torch.nn.Parameter], phase: Phase) -> torch.optim.Optimizer:
    """Return the optimiser of a phase, see the table of the package."""
    fused = True if parameters[0].is_cuda else None  # one kernel in place of one for each tensor
    if phase.loss in ("supervised", "rotation"):
        how: dict[str, Any] = {"weight_decay": 5e-4, "nesterov": True, "fused": fused}
        return torch.optim.SGD(parameters, phase.lr, 0.9, **how)
    betas, decay = ((0.9, 0.999), 0.2) if phase.loss == "probe" else ((0.9, 0.95), 0.05)
    return torch.optim.AdamW(parameters, lr=phase.lr, betas=betas, weight_decay=decay, fused=fused)


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits.float(), labels, label_smoothing=LABEL_SMOOTHING)
