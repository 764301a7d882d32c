"""Online test-time training on a stream, as result rows."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from tttlib import streams, ttt
from tttlib.data import ImageSet
from tttlib.evaluate.matching_ttt import TrainableAtTest, engine
from tttlib.evaluate.unit_rows import describe, judged, protocol_of
from tttlib.models import RotationNet
from tttlib.results import Store
from tttlib.runtime.devices import best_device
from tttlib.ttt import rotation

PROTOCOL = {
    "reset": "never: each image starts where the one before it ended",
    "prediction": "after this image's updates, on the whole image",
    "held-out": "no adaptation on these images; before image `position` of the stream",
}


def online(
    model: TrainableAtTest,
    stream: streams.Stream,
    *,
    store: Store,
    heldout: streams.Stream | None = None,
    evaluate_every: int = 100,
    progress: bool = True,
    **settings: Any,
) -> pd.DataFrame:
    """Run online TTT along a stream, as one unit of work.

    Parameters
    ----------
    model
        An autoencoder or a rotation network, which is left as it is.
    stream
        What arrives in which order.
    store
        Keeps the rows.
    heldout
        Images that are evaluated without adaptation after every `evaluate_every` arrivals and at
        the end.
    evaluate_every
        The number of arrivals between two evaluations.
    progress
        Whether to show a progress bar.
    **settings
        The settings of `ttt.run`, or of `rotation.run` for a `RotationNet`: batch_size, lr,
        optimizer, calm, … By default there is one step per image and one prediction after it.

    Returns
    -------
    DataFrame
        One row per arrival and prediction, and one per held-out image and evaluation, with part
        ("stream" or "held-out"), position (in the stream; for held-out rows the number of images
        adapted to before), block, domain, severity, id, label, step, prediction, correct, loss
        (before the first update of the image), failed, the clusters, and the settings.
    """
    _, run = engine(model)
    settings = _with_defaults(settings)
    unit = _unit(model, stream, heldout, evaluate_every, settings)

    def adapt() -> pd.DataFrame:
        plan = stream.rows()
        net = copy.deepcopy(model).to(best_device())
        result = run(
            net,
            stream.images(),
            ids=torch.tensor(plan["id"].to_numpy()),
            seed=stream.seed,
            online=True,
            heldout=None if heldout is None else heldout.images(),
            evaluate_every=evaluate_every,
            progress=progress,
            **settings,
        )
        rows = _stream_rows(plan, result, stream.dataset)
        return rows if heldout is None else pd.concat([rows, _heldout_rows(heldout, result)])

    protocol = protocol_of(stream.dataset, PROTOCOL, stream.order)
    return store.run(unit, adapt, protocol=protocol)


def online_together(
    model: RotationNet, several_streams: Sequence[streams.Stream], *, store: Store, **settings: Any
) -> pd.DataFrame:
    """Run online TTT by rotation along several streams of one length at once.

    Parameters
    ----------
    model
        A rotation network, which is left as it is.
    several_streams
        Streams of equally many arrivals and with one seed; each has weights of its own.
    store
        Keeps the rows.
    **settings
        The settings of `rotation.run_streams`. By default there is one step per image and one
        prediction after it.

    Returns
    -------
    DataFrame
        The rows that `online` gives for each stream. They are stored as the same units of work,
        so either function reads what the other one finished.

    Raises
    ------
    ValueError
        For streams of different lengths or seeds, another kind of network, and settings out of
        range.
    """
    seeds = sorted({stream.seed for stream in several_streams})
    if len(seeds) != 1:
        raise ValueError(f"streams that run together must have one seed, not {seeds}")
    settings = _with_defaults(settings)
    units = [_unit(model, stream, None, 0, settings) for stream in several_streams]
    unfinished = [i for i, unit in enumerate(units) if not store.path(unit).exists()]
    results: dict[int, ttt.TTTResult] = {}
    if unfinished:
        plans = [several_streams[i].rows() for i in unfinished]
        adapted = rotation.run_streams(
            copy.deepcopy(model).to(best_device()),
            [several_streams[i].images() for i in unfinished],
            ids=[torch.tensor(plan["id"].to_numpy()) for plan in plans],
            seed=seeds[0],
            **settings,
        )
        results = dict(zip(unfinished, adapted, strict=True))
    parts = []
    for i, (stream, unit) in enumerate(zip(several_streams, units, strict=True)):

        def rows(i: int = i, stream: streams.Stream = stream) -> pd.DataFrame:
            return _stream_rows(stream.rows(), results[i], stream.dataset)

        protocol = protocol_of(stream.dataset, PROTOCOL, stream.order)
        parts.append(store.run(unit, rows, protocol=protocol))
    return pd.concat(parts, ignore_index=True)


def _with_defaults(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings with one step and one prediction after the last where none are given."""
    settings = {"steps": 1, **settings}
    settings.setdefault("evaluate_at", [settings["steps"]])
    return settings


def _unit(
    model: TrainableAtTest,
    stream: streams.Stream,
    heldout: streams.Stream | None,
    evaluate_every: int,
    settings: dict[str, Any],
) -> dict[str, Any]:
    """Return what identifies the work on a stream."""
    return {
        "experiment": "online",
        "method": f"online {engine(model)[0]}",
        **describe(model, stream.dataset),
        "stream": stream.name,
        "stream_fingerprint": stream.fingerprint(),
        "heldout_fingerprint": heldout and heldout.fingerprint(),
        "evaluate_every": evaluate_every if heldout else None,
        "seed": stream.seed,
        **settings,
    }


def _stream_rows(plan: pd.DataFrame, result: ttt.TTTResult, dataset: ImageSet) -> pd.DataFrame:
    """Return one row per arrival and prediction."""
    k = len(result.evaluated_at)
    rows = plan.loc[plan.index.repeat(k)].assign(
        part="stream",
        step=np.tile(result.evaluated_at, len(plan)),
        loss=result.losses[:, 0].repeat_interleave(k).numpy(),
        failed=result.failed.repeat_interleave(k).numpy(),
    )
    return judged(rows, result.logits.flatten(0, 1), dataset)


def _heldout_rows(heldout: streams.Stream, result: ttt.TTTResult) -> pd.DataFrame:
    """Return one row per held-out image and evaluation."""
    assert result.heldout_logits is not None  # [E,M,C]
    plan = heldout.rows().assign(part="held-out", step=0, loss=np.nan, failed=False)
    evaluations = zip(result.heldout_at, result.heldout_logits, strict=True)
    return pd.concat(
        [judged(plan.assign(position=at), logits, heldout.dataset) for at, logits in evaluations],
        ignore_index=True,
    )
