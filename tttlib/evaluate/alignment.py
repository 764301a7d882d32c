"""Whether the self-supervised gradient points where the classification improves."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from tttlib import ttt
from tttlib.data import ImageSet
from tttlib.evaluate.matching_ttt import TrainableAtTest
from tttlib.evaluate.unit_rows import latent_rows, stream_of
from tttlib.models import RotationNet
from tttlib.models.rotation_net import TURNS, rotated
from tttlib.runtime.devices import best_device
from tttlib.ttt import rotation


def gradient_alignment(
    model: TrainableAtTest,
    dataset: ImageSet,
    domains: Sequence[str],
    *,
    severity: float = 5,
    seed: int = 0,
    masks: int = 16,
    finetune: str = "encoder",
) -> pd.DataFrame:
    """Does the self-supervised gradient point where the classification improves? A row per image.

    cosine  between the gradient of the MAE loss (mean over `masks` masks) and that of the
            cross-entropy with the true label, over the parameters TTT trains; the first-order
            effect of a TTT step on the cross-entropy has the opposite sign. For a `RotationNet`
            the rotation loss (mean over the four turns), over the shared trunk
    Positive alignment is what makes TTT help in Sun et al., "Test-Time Training with
    Self-Supervision for Generalization under Distribution Shifts", ICML 2020, theorem 1. Uses the
    labels: a diagnosis, nothing a method may do.
    """
    device = best_device()
    model = copy.deepcopy(model).to(device).eval()
    if isinstance(model, RotationNet):
        names = rotation.trained_parameters(model, "shared")
    else:
        names = ttt.trained_parameters(model, finetune)
    parameters = [p.requires_grad_() for n, p in model.named_parameters() if n in names]
    rows = []
    for batch in stream_of(dataset, domains, severity, seed, len(dataset)):
        images, labels = batch.images.to(device), batch.labels.to(device)
        cosines = []
        for i, (image, label) in enumerate(zip(images.split(1), labels.split(1), strict=True)):
            random = torch.Generator().manual_seed(int(dataset.ids[batch.index[i]]))
            task = _self_supervised_loss(model, image, masks, random)
            classification = F.cross_entropy(model.classify(image), label)
            a = _flat_gradient(task, parameters)
            b = _flat_gradient(classification, parameters)
            cosines.append(F.cosine_similarity(a, b, dim=0))
        table = latent_rows(dataset, batch).assign(cosine=torch.stack(cosines).cpu().numpy())
        clusters = {k: v[batch.index].numpy() for k, v in dataset.clusters.items()}
        rows.append(table.assign(**clusters))
    return pd.concat(rows, ignore_index=True)


def _self_supervised_loss(
    model: TrainableAtTest, image: Tensor, masks: int, random: torch.Generator
) -> Tensor:
    """Of one image [1,3,H,W]: reconstruction under `masks` masks, or its four turns told apart."""
    if isinstance(model, RotationNet):
        turns = torch.arange(TURNS, device=image.device)
        copies = rotated(image.expand(TURNS, -1, -1, -1), turns)
        return F.cross_entropy(model.rotation_logits(copies), turns)
    return model.reconstruction_loss(image.expand(masks, -1, -1, -1), generator=random)


def _flat_gradient(loss: Tensor, parameters: list[Tensor]) -> Tensor:
    """All gradients as one vector; zeros where the loss does not reach (the mask token)."""
    found = torch.autograd.grad(loss, parameters, allow_unused=True)
    pairs = zip(found, parameters, strict=True)
    return torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for g, p in pairs])
