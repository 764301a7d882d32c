"""What identifies a unit of work, and the rows that it becomes."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from tttlib import corruptions, streams, ttt
from tttlib.data import ImageSet
from tttlib.evaluate import labels
from tttlib.models.identity import weights_of
from tttlib.models.verify import mismatch


def describe(model: nn.Module, dataset: ImageSet) -> dict[str, Any]:
    """Return what identifies a model and a selection of images in a unit of work.

    Rows of a model that failed its sanity check (`zoo.load(verify=…)`) get a column
    `model_mismatch`.

    Raises
    ------
    ValueError
        If model and dataset number their classes differently.
    """
    labels.check(tuple(getattr(model, "classes", ())), tuple(dataset.classes), dataset.name)
    selection = hashlib.sha256(dataset.ids.numpy().tobytes()).hexdigest()[:16]
    card: dict[str, Any] = getattr(model, "card", {})  # a network of the caller's own has none
    verified = card.get("verified", {"ok": None})
    doubt = {"model_mismatch": mismatch(verified)} if verified["ok"] is False else {}
    return {
        "dataset": dataset.name,
        "split": dataset.split,
        "dataset_fingerprint": dataset.fingerprint,
        "selection": selection,
        "images": len(dataset),
        "corruptions_version": corruptions.VERSION,
        "model": card.get("name", "unnamed"),
        "weights_sha256": weights_of(model),
        **{key: card[key] for key in ("resized", "outputs") if key in card},
        **doubt,
    }


def protocol_of(
    dataset: ImageSet, protocol: Mapping[str, str], order: str | None = None
) -> dict[str, str]:
    """Return the protocol with entries for the origin of corrupted images and for their order."""
    made = "made in memory, not passed through JPEG"
    if dataset.released is not None:
        made = f"the files of {dataset.released.name}"
        clean, corrupted = getattr(dataset.images, "preprocess", ""), dataset.released.preprocess
        if corrupted:
            made += f", {corrupted}; clean images {clean}"
    return {**protocol, "corruption": made, **({"order": order} if order else {})}


def stream_of(
    dataset: ImageSet, domains: Sequence[str], severity: float, seed: int, batch_size: int
) -> streams.Stream:
    """Return all images under one domain after the other, in the order of the dataset."""
    return streams.continual(
        dataset, domains, severity=severity, batch_size=batch_size, seed=seed, order="as stored"
    )


def latent_rows(dataset: ImageSet, batch: streams.Batch) -> pd.DataFrame:
    """Return domain, id, label, class and clusters of each image of a batch."""
    return pd.DataFrame(
        {
            "domain": batch.domain,
            "id": dataset.ids[batch.index].numpy(),
            "label": batch.labels.numpy(),
            "class": [dataset.classes[i] for i in batch.labels],
            **{name: column[batch.index].numpy() for name, column in dataset.clusters.items()},
        }
    )


def judged(
    rows: pd.DataFrame, logits: Tensor, dataset: ImageSet, *, certainty: bool = False
) -> pd.DataFrame:
    """Return N rows with their predictions, and whether these are the labels, given logits [N,C].

    Parameters
    ----------
    rows
        Arrivals with a column `label`.
    logits
        [N,C]; p = softmax(logits) over all C outputs, in float64.
    dataset
        Where the labels are from.
    certainty
        Whether to add how certain the answers were, with y the label: confidence = max_c p_c, nll
        = -ln p_y (negative log-likelihood) and brier = sum_c (p_c - 1{c = y})². An answer with a
        logit that is NaN, or infinitely large, says nothing: p_c = 1/C.

    Raises
    ------
    ValueError
        If the model has fewer outputs than the dataset has classes.
    """
    labels.check_outputs(logits.shape[-1], dataset)
    prediction = logits.argmax(-1).cpu().numpy()
    rows = rows.assign(prediction=prediction, correct=prediction == rows["label"])
    return rows.assign(**_certainty(logits, rows["label"])) if certainty else rows


def _certainty(logits: Tensor, label: pd.Series) -> dict[str, np.ndarray]:
    """Return confidence, nll and brier [N], see `judged`."""
    log_p = logits.cpu().double().log_softmax(-1)  # [N,C]
    nothing = log_p.isnan().any(-1, keepdim=True)
    log_p = torch.where(nothing, -math.log(log_p.shape[-1]), log_p)
    p, y = log_p.exp(), torch.tensor(label.to_numpy())[:, None]
    p_y, log_p_y = (values.gather(-1, y)[:, 0] for values in (p, log_p))
    brier = p.square().sum(-1) - 2 * p_y + 1
    columns = {"confidence": p.amax(-1), "nll": -log_p_y, "brier": brier}
    return {name: column.numpy() for name, column in columns.items()}


def prediction_rows(dataset: ImageSet, result: ttt.TTTResult) -> pd.DataFrame:
    """Return the rows of N images with K predictions each: N * K rows, image after image.

    Raises
    ------
    ValueError
        If the model has fewer outputs than the dataset has classes.
    """
    n, k = result.logits.shape[:2]
    last = result.losses.new_full((n, 1), float("nan"))
    losses = torch.cat([result.losses, last], 1)[:, list(result.evaluated_at)]  # [N,K]
    per_image = {
        "id": dataset.ids,
        "label": dataset.labels,
        "failed": result.failed,
        **dataset.clusters,
    }
    rows = pd.DataFrame(
        {name: column.repeat_interleave(k).numpy() for name, column in per_image.items()}
    )
    rows = judged(
        rows.assign(step=np.tile(result.evaluated_at, n)), result.logits.flatten(0, 1), dataset
    )
    return rows.assign(loss=losses.flatten().numpy())
