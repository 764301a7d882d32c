"""Online test-time training on a stream, as result rows."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from tttlib import rotation, streams, ttt
from tttlib.devices import best_device
from tttlib.evaluate.engines import TrainableAtTest, engine
from tttlib.evaluate.rows import describe, protocol_of
from tttlib.models import RotationNet
from tttlib.results import Store

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
    """Online TTT along `stream`: a row per arrival, and rows of the held-out images.

    heldout   evaluated without adaptation after every `evaluate_every` arrivals and at the end
    settings  of `ttt.run`, for a `RotationNet` of `rotation.run`: batch_size, lr, optimizer,
              calm …; steps 1 and evaluate_at (steps,) unless given
    Columns: part ("stream" or "held-out"), position (in the stream; for held-out rows the number of
    images adapted to before), block, domain, severity, id, label, step, prediction, correct, loss
    (before the first update of the image), failed, the dataset's clusters, and the settings.
    `model` is left as it is. A whole stream is one unit of work.
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
        seen = _stream_rows(plan, result)
        return seen if heldout is None else pd.concat([seen, _heldout_rows(heldout, result)])

    return store.run(unit, adapt, protocol=protocol_of(stream.dataset, PROTOCOL))


def online_together(
    model: RotationNet, several: Sequence[streams.Stream], *, store: Store, **settings: Any
) -> pd.DataFrame:
    """Run online TTT by rotation along several streams of one length at once.

    Parameters
    ----------
    several
        Streams over equally many arrivals and with one seed; each has weights of its own.
    settings
        Of `rotation.run_streams`; steps 1 and evaluate_at (steps,) unless given.

    Returns
    -------
    pandas.DataFrame
        The rows that `online` gives for each stream, stored under the same units of work, so that
        either function finds what the other one finished.
    """
    settings = _with_defaults(settings)
    units = [_unit(model, stream, None, 0, settings) for stream in several]
    missing = [
        stream for stream, unit in zip(several, units, strict=True) if not store.path(unit).exists()
    ]
    found: dict[int, ttt.TTTResult] = {}
    if missing:
        results = rotation.run_streams(
            model.to(best_device()),
            [stream.images() for stream in missing],
            ids=[torch.tensor(stream.rows()["id"].to_numpy()) for stream in missing],
            seed=missing[0].seed,
            **settings,
        )
        found = {id(stream): result for stream, result in zip(missing, results, strict=True)}
    parts = []
    for stream, unit in zip(several, units, strict=True):

        def rows(stream: streams.Stream = stream) -> pd.DataFrame:
            return _stream_rows(stream.rows(), found[id(stream)])

        parts.append(store.run(unit, rows, protocol=protocol_of(stream.dataset, PROTOCOL)))
    return pd.concat(parts, ignore_index=True)


def _with_defaults(settings: dict[str, Any]) -> dict[str, Any]:
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
    """What identifies a stream's work."""
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


def _stream_rows(plan: pd.DataFrame, result: ttt.TTTResult) -> pd.DataFrame:
    """One row per arrival and prediction."""
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
    """One row per held-out image and evaluation."""
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
