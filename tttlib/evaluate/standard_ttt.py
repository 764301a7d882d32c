"""Standard test-time training and the unadapted model, as result rows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd
import torch
from torch import nn
from tqdm.auto import tqdm

from tttlib import adapt, streams
from tttlib.data import ImageSet
from tttlib.evaluate.matching_ttt import TrainableAtTest, engine
from tttlib.evaluate.unit_rows import (
    describe,
    judged,
    prediction_rows,
    protocol_of,
    stream_of,
)
from tttlib.results import Store
from tttlib.runtime.devices import best_device
from tttlib.streams.stream import SECOND
from tttlib.ttt.batching import images_at_once

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
    """Run standard TTT on every image of every domain.

    Work is done, kept and resumed in units of 100 images.

    Parameters
    ----------
    model
        An autoencoder or a rotation network, which is left as it is.
    dataset
        The clean images.
    domains
        Corruptions or "clean".
    store
        Keeps the rows.
    severity, seed
        Severity and seed of the corruptions; the seed also draws the masks.
    progress
        Whether to show a progress bar.
    **settings
        The settings of `ttt.run`, or of `rotation.run` for a `RotationNet`: steps, batch_size, lr,
        optimizer, evaluate_at, …

    Returns
    -------
    DataFrame
        One row per image and prediction with domain, severity, id, label, step (0 is before any
        update), prediction, correct, loss (the self-supervised loss after `step` updates, missing
        for the last), failed, the clusters of the dataset, and the settings.
    """
    stream = stream_of(dataset, domains, severity, seed, 1)
    return standard(model, stream, store=store, progress=progress, **settings)


def standard(
    model: TrainableAtTest,
    stream: streams.Stream,
    *,
    store: Store,
    progress: bool = True,
    **settings: Any,
) -> pd.DataFrame:
    """Run standard TTT on what arrives in a stream, and return the rows of `test_time_training`.

    The order of the stream has no influence, so streams of the same images and corruptions share
    their units. An image that arrives twice under one corruption is adapted once.

    Raises
    ------
    ValueError
        For streams of two corruptions at once (`streams.changing`), whose units have no name yet.
    """
    if SECOND in stream.plan:
        raise ValueError(f"standard TTT takes one corruption at a time, not {stream.name!r}")
    parts = []
    method, run, _ = engine(model)
    model = model.to(best_device())
    for plan in tqdm(list(_units(stream.plan)), desc="TTT", unit="unit", disable=not progress):
        part = stream.dataset.subset(torch.tensor(plan["index"].to_numpy()))
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

        def compute(plan: pd.DataFrame = plan, part: ImageSet = part) -> pd.DataFrame:
            images = stream.images_of(plan)
            result = run(model, images, ids=part.ids, seed=stream.seed, **settings)
            rows = prediction_rows(part, result)
            times = len(rows) // len(plan)
            return rows.assign(severity=plan["severity"].repeat(times).to_numpy())

        parts.append(store.run(unit, compute, protocol=protocol_of(part, PROTOCOL)))
    return pd.concat(parts, ignore_index=True)


def _units(plan: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Yield the plan in pieces of 100 images of one domain, whatever its order.

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
    """Return what identifies the severities of a unit where each image has its own."""
    values = severities.to_numpy(dtype="float64")
    digest = hashlib.sha256(values.tobytes()).hexdigest()[:16]
    return f"{values.min():g} to {values.max():g}, {digest}"


def predict(
    model: nn.Module,
    dataset: ImageSet,
    domains: Sequence[str],
    *,
    severity: float = 5,
    seed: int = 0,
    batch_size: int | None = None,
) -> pd.DataFrame:
    """Return the rows of `source` for all images under one domain after the other.

    They do not depend on the `batch_size`; None chooses a fast one.
    """
    batch_size = batch_size or images_at_once(best_device())
    return source(model, stream_of(dataset, domains, severity, seed, batch_size))


def source(model: nn.Module, stream: streams.Stream) -> pd.DataFrame:
    """Return the rows of a stream in its order, with the predictions of the unadapted model.

    The columns are those of `Stream.rows`, prediction and correct. The model is any network that
    `adapt.create` takes, and is left as it is.

    Raises
    ------
    ValueError
        If the model answers with anything but logits, or has fewer outputs than the dataset has
        classes.
    """
    unadapted = adapt.create("source", model.to(best_device()))
    rows = stream.rows()
    parts = [
        judged(rows.iloc[stream.span([number])], unadapted(batch.images), stream.dataset)
        for number, batch in enumerate(stream)
    ]
    return pd.concat(parts)
