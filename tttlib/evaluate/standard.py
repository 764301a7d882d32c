"""Standard test-time training and the unadapted model, as result rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch
from tqdm.auto import tqdm

from tttlib import streams, ttt
from tttlib.data import ImageSet
from tttlib.devices import best_device
from tttlib.evaluate.rows import describe, prediction_rows, stream_of
from tttlib.models import MaskedAutoencoder
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
            return prediction_rows(part, result)

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
    for batch in stream_of(dataset, domains, severity, seed, batch_size):
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
