"""Standard test-time training and the unadapted model, as result rows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd
import torch
from tqdm.auto import tqdm

from tttlib import streams
from tttlib.data import ImageSet
from tttlib.evaluate.matching_ttt import TrainableAtTest, engine
from tttlib.evaluate.unit_rows import describe, prediction_rows, protocol_of
from tttlib.results import Store
from tttlib.runtime.devices import best_device

IMAGES_PER_UNIT = 100
PROTOCOL = {
    "reset": "weights and optimiser before every image",
    "prediction": "after every update, on the whole image",
}


def test_time_training(
    model: TrainableAtTest,
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

    settings  of `ttt.run`, for a `RotationNet` of `rotation.run`: steps, batch_size, lr,
              optimizer, evaluate_at …
    Columns: domain, severity, id, label, step (0 = before any update), prediction, correct, loss
    (self-supervised loss of the weights after `step` updates; missing for the last), failed, the
    dataset's clusters, and the settings. Work is done, kept and resumed in units of 100 images.
    """
    stream = streams.continual(dataset, domains, severity=severity, batch_size=1, seed=seed)
    return standard(model, stream, store=store, progress=progress, **settings)


def standard(
    model: TrainableAtTest,
    stream: streams.Stream,
    *,
    store: Store,
    progress: bool = True,
    **settings: Any,
) -> pd.DataFrame:
    """Standard TTT on what arrives in `stream`; the rows of `test_time_training`.

    Its order has no influence, so streams of the same images and corruptions share their units. An
    image that arrives twice under one corruption is adapted once.
    """
    parts = []
    method, run = engine(model)
    model = model.to(best_device())
    for plan in tqdm(list(_units(stream.plan)), desc="TTT", unit="unit", disable=not progress):
        index = torch.tensor(plan["index"].to_numpy())
        part = stream.dataset.subset(index)
        severities = plan["severity"].unique()
        unit = {
            "experiment": "ttt",
            "method": method,
            **describe(model, part),
            "domain": str(plan["domain"].iloc[0]),
            "severity": float(severities[0]) if len(severities) == 1 else _digest(plan["severity"]),
            "seed": stream.seed,
            **settings,
        }

        def adapt(plan: pd.DataFrame = plan, part: ImageSet = part) -> pd.DataFrame:
            images = stream.images_of(plan)
            result = run(model, images, ids=part.ids, seed=stream.seed, **settings)
            rows = prediction_rows(part, result)
            times = len(rows) // len(plan)
            return rows.assign(severity=plan["severity"].repeat(times).to_numpy())

        parts.append(store.run(unit, adapt, protocol=protocol_of(part, PROTOCOL)))
    return pd.concat(parts, ignore_index=True)


def _units(plan: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """The plan in pieces of 100 images of one domain, whatever its order.

    A severity that rises from image to image does not cut it into single images.
    """
    plan = plan.drop_duplicates(["index", "domain", "severity"])
    for _, part in plan.groupby("domain", sort=False):
        levels = part["severity"].nunique() <= len(part) / 2
        groups = part.groupby("severity") if levels else [(None, part)]
        for _, group in groups:
            group = group.sort_values(["index", "severity"])
            for start in range(0, len(group), IMAGES_PER_UNIT):
                yield group.iloc[start : start + IMAGES_PER_UNIT]


def _digest(severities: pd.Series) -> str:
    """What identifies the severities of a unit where each image has its own."""
    values = severities.to_numpy(dtype="float64")
    digest = hashlib.sha256(values.tobytes()).hexdigest()[:16]
    return f"{values.min():g} to {values.max():g}, {digest}"


def predict(
    model: Any,
    dataset: ImageSet,
    domains: Sequence[str],
    *,
    severity: float = 5,
    seed: int = 0,
    batch_size: int = 250,
) -> pd.DataFrame:
    """The unadapted model: one row per image and domain, with `prediction` and `correct`."""
    return source(
        model,
        streams.continual(dataset, domains, severity=severity, batch_size=batch_size, seed=seed),
    )


@torch.no_grad()
def source(model: Any, stream: streams.Stream) -> pd.DataFrame:
    """The unadapted model on a stream: its rows with `prediction` and `correct`, in its order."""
    device = best_device()
    model = model.to(device).eval()
    found = torch.cat([model.classify(b.images.to(device)).argmax(1).cpu() for b in stream])
    rows = stream.rows().assign(prediction=found.numpy())
    return rows.assign(correct=rows["prediction"] == rows["label"])
