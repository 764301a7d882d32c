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
from tttlib.evaluate import label_matching
from tttlib.evaluate.matching_ttt import TrainableAtTest, check_autoencoder
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
    """Return how well the self-supervised gradient agrees with that of the classification.

    The first-order effect of a TTT step on the cross-entropy has the opposite sign of the cosine
    between the two gradients: a positive alignment is what makes TTT help. The labels are used, so
    this is a diagnosis and nothing that a method may do.

    Parameters
    ----------
    model
        An autoencoder (mean loss over all masks) or a `RotationNet` (mean loss over four turns).
    dataset, domains, severity, seed
        The clean images, and corruptions or "clean" with their severity and seed.
    masks
        The number of masks per image.
    finetune
        Which parameters of an autoencoder count; the shared trunk counts for a `RotationNet`.

    Returns
    -------
    DataFrame
        One row per image and domain with domain, id, label, class, clusters and cosine: between the
        gradients of the self-supervised loss and of the cross-entropy with the true label.

    Raises
    ------
    ValueError
        If the model has no self-supervised task, or fewer outputs than the dataset has classes.

    References
    ----------
    Theorem 1 of Sun et al., "Test-Time Training with Self-Supervision for Generalization under
    Distribution Shifts", ICML 2020.
    """
    device = best_device()
    model = copy.deepcopy(model).to(device).eval()
    if isinstance(model, RotationNet):
        names = rotation.trained_parameters(model, "shared")
    else:
        check_autoencoder(model)
        names = ttt.trained_parameters(model, finetune)
    parameters = [p.requires_grad_() for n, p in model.named_parameters() if n in names]
    rows = []
    for batch in stream_of(dataset, domains, severity, seed, len(dataset)):
        images, labels = batch.images.to(device), batch.labels.to(device)
        cosines = []
        for i, (image, label) in enumerate(zip(images.split(1), labels.split(1), strict=True)):
            random = torch.Generator().manual_seed(int(dataset.ids[batch.index[i]]))
            task = _self_supervised_loss(model, image, masks, random)
            logits = model.classify(image)
            label_matching.check_outputs(logits.shape[1], dataset)
            classification = F.cross_entropy(logits, label)
            a, b = (_flat_gradient(loss, parameters) for loss in (task, classification))
            cosines.append(F.cosine_similarity(a, b, dim=0))
        rows.append(latent_rows(dataset, batch).assign(cosine=torch.stack(cosines).cpu().numpy()))
    return pd.concat(rows, ignore_index=True)


def _self_supervised_loss(
    model: TrainableAtTest, image: Tensor, masks: int, random: torch.Generator
) -> Tensor:
    """Return the loss on one image [1,3,H,W]: of its reconstruction or of telling its turns."""
    if isinstance(model, RotationNet):
        turns = torch.arange(TURNS, device=image.device)
        copies = rotated(image.expand(TURNS, -1, -1, -1), turns)
        return F.cross_entropy(model.rotation_logits(copies), turns)
    return model.reconstruction_loss(image.expand(masks, -1, -1, -1), generator=random)


def _flat_gradient(loss: Tensor, parameters: list[Tensor]) -> Tensor:
    """Return all gradients as one vector, zeros where the loss does not depend (the mask token)."""
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
    return torch.cat([gradient.flatten() for gradient in gradients])
