"""Online test-time training on a stream, as result rows."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pandas as pd
import torch

from tttlib import streams, ttt
from tttlib.evaluate.matching_ttt import TrainableAtTest, engine
from tttlib.evaluate.unit_rows import describe, protocol_of
from tttlib.results import Store
from tttlib.runtime.devices import best_device

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
    method, run = engine(model)
    settings = {"steps": 1, **settings}
    settings.setdefault("evaluate_at", [settings["steps"]])
    unit = {
        "experiment": "online",
        "method": f"online {method}",
        **describe(model, stream.dataset),
        "stream": stream.name,
        "stream_fingerprint": stream.fingerprint(),
        "heldout_fingerprint": heldout and heldout.fingerprint(),
        "evaluate_every": evaluate_every if heldout else None,
        "seed": stream.seed,
        **settings,
    }

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
        rows = _stream_rows(plan, result)
        return rows if heldout is None else pd.concat([rows, _heldout_rows(heldout, result)])

    return store.run(unit, adapt, protocol=protocol_of(stream.dataset, PROTOCOL))


def _stream_rows(plan: pd.DataFrame, result: ttt.TTTResult) -> pd.DataFrame:
    """Return one row per arrival and prediction."""
    k = len(result.evaluated_at)
    rows = plan.loc[plan.index.repeat(k)].assign(
        part="stream",
        step=np.tile(result.evaluated_at, len(plan)),
        prediction=result.logits.argmax(-1).flatten().numpy(),
        loss=result.losses[:, 0].repeat_interleave(k).numpy(),
        failed=result.failed.repeat_interleave(k).numpy(),
    )
    return rows.assign(correct=rows["prediction"] == rows["label"])


def _heldout_rows(heldout: streams.Stream, result: ttt.TTTResult) -> pd.DataFrame:
    """Return one row per held-out image and evaluation."""
    assert result.heldout_logits is not None
    predictions = result.heldout_logits.argmax(-1).numpy()  # [E,M]
    plan = heldout.rows()
    parts = [
        plan.assign(part="held-out", position=at, prediction=prediction)
        for at, prediction in zip(result.heldout_at, predictions, strict=True)
    ]
    rows = pd.concat(parts, ignore_index=True)
    return rows.assign(
        step=0, loss=np.nan, failed=False, correct=rows["prediction"] == rows["label"]
    )
