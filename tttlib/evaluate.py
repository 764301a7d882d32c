"""The only loop over a stream: what a model predicts while it adapts, as result rows."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm.auto import tqdm

from tttlib import corruptions, streams, ttt
from tttlib.data import ImageSet
from tttlib.devices import best_device
from tttlib.models import MaskedAutoencoder
from tttlib.models.verify import mismatch
from tttlib.results import Store

IMAGES_PER_UNIT = 100


def test_time_training(
    model: MaskedAutoencoder,
    dataset: ImageSet,
    domains: Sequence[str],
    *,
    store: Store,
    severity: float = 5,
    seed: int = 0,
    progress: bool = True,
    **settings: Any,
) -> pd.DataFrame:
    """Standard TTT on every image of every domain: one row per image and prediction.

    settings  of `ttt.run`: steps, batch_size, lr, optimizer, evaluate_at …
    Columns: domain, id, label, step (0 = before any update), prediction, correct, loss (MAE loss of
    the weights after `step` updates; missing for the last), failed, the dataset's clusters, and the
    settings. Work is done, kept and resumed in units of 100 images.
    """
    parts = []
    units = [(d, s) for d in domains for s in range(0, len(dataset), IMAGES_PER_UNIT)]
    model = model.to(best_device())
    for domain, start in tqdm(units, desc="TTT", unit="unit", disable=not progress):
        part = dataset.subset(range(start, min(start + IMAGES_PER_UNIT, len(dataset))))
        unit = {
            "experiment": "ttt",
            "method": "TTT-MAE",
            **describe(model, part),
            "domain": domain,
            "severity": severity,
            "seed": seed,
            **settings,
        }

        def adapt(part: ImageSet = part, domain: str = domain) -> pd.DataFrame:
            stream = streams.continual(
                part, [domain], severity=severity, batch_size=len(part), seed=seed
            )
            batch = next(stream)
            result = ttt.run(model, batch.images, ids=part.ids, seed=seed, **settings)
            return _rows(part, result)

        protocol = {
            "reset": "weights and optimiser before every image",
            "prediction": "after every update, on the whole image",
            "corruption": "made in memory, not passed through JPEG",
        }
        parts.append(store.run(unit, adapt, protocol=protocol))
    return pd.concat(parts, ignore_index=True)


@torch.no_grad()
def predict(
    model: MaskedAutoencoder,
    dataset: ImageSet,
    domains: Sequence[str],
    *,
    severity: float = 5,
    seed: int = 0,
    batch_size: int = 250,
) -> pd.DataFrame:
    """The unadapted model: one row per image and domain, with `prediction` and `correct`."""
    device = best_device()
    model = model.to(device).eval()
    parts = []
    for batch in _stream(dataset, domains, severity, seed, batch_size):
        prediction = model.classify(batch.images.to(device)).argmax(1).cpu()
        parts.append(
            pd.DataFrame(
                {
                    "domain": batch.domain,
                    "id": dataset.ids[batch.index].numpy(),
                    "label": batch.labels.numpy(),
                    "prediction": prediction.numpy(),
                    "correct": (prediction == batch.labels).numpy(),
                    **{k: v[batch.index].numpy() for k, v in dataset.clusters.items()},
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


@torch.no_grad()
def latents(
    model: MaskedAutoencoder,
    dataset: ImageSet,
    domains: Sequence[str],
    *,
    severity: float = 5,
    seed: int = 0,
    batch_size: int = 250,
) -> tuple[np.ndarray, pd.DataFrame]:
    """CLS latents [N,D] of every image under every domain, and their rows (domain, id, label)."""
    device = best_device()
    model = model.to(device).eval()
    found, rows = [], []
    for batch in _stream(dataset, domains, severity, seed, batch_size):
        found.append(model.encode(batch.images.to(device)).float().cpu().numpy())
        rows.append(_latent_rows(dataset, batch))
    return np.concatenate(found), pd.concat(rows, ignore_index=True)


def latent_trajectories(
    model: MaskedAutoencoder,
    dataset: ImageSet,
    domains: Sequence[str],
    *,
    severity: float = 5,
    seed: int = 0,
    **settings: Any,
) -> tuple[np.ndarray, pd.DataFrame]:
    """CLS latents [N*(steps+1),D] during standard TTT, and their rows (domain, id, label, step)."""
    found, rows = [], []
    model = model.to(best_device())
    for batch in _stream(dataset, domains, severity, seed, len(dataset)):
        ids = dataset.ids[batch.index]
        result = ttt.run(model, batch.images, ids=ids, seed=seed, record_latents=True, **settings)
        assert result.latents is not None
        n, steps, _ = result.latents.shape
        found.append(result.latents.flatten(0, 1).numpy())
        table = _latent_rows(dataset, batch)
        rows.append(
            table.loc[table.index.repeat(steps)].assign(step=np.tile(result.evaluated_at, n))
        )
    return np.concatenate(found), pd.concat(rows, ignore_index=True)


def reconstructions(
    model: MaskedAutoencoder,
    dataset: ImageSet,
    domains: Sequence[str],
    *,
    severity: float = 5,
    seed: int = 0,
    **settings: Any,
) -> dict[str, Tensor]:
    """One image per domain: input, masked input, reconstruction before and after standard TTT.

    Image i of the dataset is shown under domain i; the same mask serves before and after. Values
    are [len(domains),3,H,W] in [0,1]; `settings` of `ttt.run`.
    """
    chosen = dataset.subset(range(len(domains)))
    stream = _stream(chosen, domains, severity, seed, len(chosen))
    images = torch.stack([batch.images[i] for i, batch in enumerate(stream)])
    device = best_device()
    model, images = model.to(device), images.to(device)
    order = model.random_order(len(images), torch.Generator().manual_seed(seed), device)
    before, mask = model.reconstruct(images, order=order)
    after = torch.empty_like(before)
    for i, image in enumerate(images.split(1)):
        adapted = copy.deepcopy(model)
        ttt.run(adapted, image, online=True, ids=chosen.ids[i : i + 1], seed=seed, **settings)
        after[i] = adapted.reconstruct(image, order=order[i : i + 1])[0][0]
    masked = images * (1 - mask) + 0.5 * mask
    shown = {"input": images, "masked": masked, "before": before, "after": after}
    return {title: pictures.cpu() for title, pictures in shown.items()}


def gradient_alignment(
    model: MaskedAutoencoder,
    dataset: ImageSet,
    domains: Sequence[str],
    *,
    severity: float = 5,
    seed: int = 0,
    masks: int = 16,
    finetune: str = "encoder",
) -> pd.DataFrame:
    """Does the reconstruction gradient point where the classification improves? One row per image.

    cosine  between the gradient of the MAE loss (mean over `masks` masks) and that of the
            cross-entropy with the true label, over the parameters TTT trains; the first-order
            effect of a TTT step on the cross-entropy has the opposite sign
    Positive alignment is what makes TTT help in Sun et al., "Test-Time Training with
    Self-Supervision for Generalization under Distribution Shifts", ICML 2020, theorem 1. Uses the
    labels: a diagnosis, nothing a method may do.
    """
    device = best_device()
    model = copy.deepcopy(model).to(device).eval()
    names = ttt.trained_parameters(model, finetune)
    parameters = [p.requires_grad_() for n, p in model.named_parameters() if n in names]
    rows = []
    for batch in _stream(dataset, domains, severity, seed, len(dataset)):
        images, labels = batch.images.to(device), batch.labels.to(device)
        cosines = []
        for i, (image, label) in enumerate(zip(images.split(1), labels.split(1), strict=True)):
            random = torch.Generator().manual_seed(int(dataset.ids[batch.index[i]]))
            copies = image.expand(masks, -1, -1, -1)
            reconstruction = model.reconstruction_loss(copies, generator=random)
            classification = F.cross_entropy(model.classify(image), label)
            a = _flat_gradient(reconstruction, parameters)
            b = _flat_gradient(classification, parameters)
            cosines.append(F.cosine_similarity(a, b, dim=0))
        table = _latent_rows(dataset, batch).assign(cosine=torch.stack(cosines).cpu().numpy())
        clusters = {k: v[batch.index].numpy() for k, v in dataset.clusters.items()}
        rows.append(table.assign(**clusters))
    return pd.concat(rows, ignore_index=True)


def _flat_gradient(loss: Tensor, parameters: list[Tensor]) -> Tensor:
    """All gradients as one vector; zeros where the loss does not reach (the mask token)."""
    found = torch.autograd.grad(loss, parameters, allow_unused=True)
    pairs = zip(found, parameters, strict=True)
    return torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for g, p in pairs])


def describe(model: MaskedAutoencoder, dataset: ImageSet) -> dict[str, Any]:
    """What identifies a model and a selection of images in a unit of work.

    A model that failed its sanity gate (`zoo.load(verify=)`) leaves `model_mismatch` in its rows.
    """
    selection = hashlib.sha256(dataset.ids.numpy().tobytes()).hexdigest()[:16]
    verified = model.card.get("verified", {"ok": None})
    doubt = {"model_mismatch": mismatch(verified)} if verified["ok"] is False else {}
    return {
        "dataset": dataset.name,
        "split": dataset.split,
        "dataset_fingerprint": dataset.fingerprint,
        "selection": selection,
        "images": len(dataset),
        "corruptions_version": corruptions.VERSION,
        "model": model.card.get("name", "unnamed"),
        "weights_sha256": model.card.get("weights_sha256", "unknown"),
        **doubt,
    }


def _stream(
    dataset: ImageSet, domains: Sequence[str], severity: float, seed: int, batch_size: int
) -> Iterable[streams.Batch]:
    return streams.continual(dataset, domains, severity=severity, batch_size=batch_size, seed=seed)


def _latent_rows(dataset: ImageSet, batch: streams.Batch) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "domain": batch.domain,
            "id": dataset.ids[batch.index].numpy(),
            "label": batch.labels.numpy(),
            "class": [dataset.classes[i] for i in batch.labels],
        }
    )


def _rows(dataset: ImageSet, result: ttt.TTTResult) -> pd.DataFrame:
    """Result rows of N images: N * K of them (K predictions each), image after image."""
    at = torch.tensor(result.evaluated_at)
    n, k = result.logits.shape[:2]
    prediction = result.logits.argmax(-1)  # [N,K]
    last = result.losses.new_full((n, 1), float("nan"))
    losses = torch.cat([result.losses, last], 1)[:, at]  # [N,K]
    per_image = {
        "id": dataset.ids,
        "label": dataset.labels,
        "failed": result.failed,
        **dataset.clusters,
    }
    return pd.DataFrame(
        {name: column.repeat_interleave(k).numpy() for name, column in per_image.items()}
        | {
            "step": np.tile(at.numpy(), n),
            "prediction": prediction.flatten().numpy(),
            "correct": (prediction == dataset.labels[:, None]).flatten().numpy(),
            "loss": losses.flatten().numpy(),
        }
    )
