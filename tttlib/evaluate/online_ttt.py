"""Online test-time training on a stream, as result rows."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch

from tttlib import streams, ttt
from tttlib.data import ImageSet
from tttlib.evaluate.matching_ttt import TrainableAtTest, engine
from tttlib.evaluate.unit_rows import describe, judged, protocol_of
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
    work = _Work(model, stream, heldout, evaluate_every, settings)
    return work.run(model, store, progress)


def online_together(
    model: TrainableAtTest,
    several_streams: Sequence[streams.Stream],
    *,
    store: Store,
    each: Sequence[Mapping[str, Any]] | None = None,
    heldout: streams.Stream | Sequence[streams.Stream | None] | None = None,
    evaluate_every: int = 100,
    progress: bool = True,
    **settings: Any,
) -> pd.DataFrame:
    """Run online TTT along several streams at once, each with weights of its own.

    Streams whose settings differ in nothing but the learning rate advance as one stack, whatever
    their corruptions, orders, seeds and lengths; others take their turns. The images of all streams
    that are not finished are in memory together.

    Parameters
    ----------
    model
        An autoencoder or a rotation network, which is left as it is.
    several_streams
        What arrives in which order. A stream may be given again with other settings.
    store
        Keeps the rows of a stream as it ends.
    each
        For each stream the settings that replace those of all.
    heldout
        As in `online`: for all streams, or one (or None) for each.
    evaluate_every, progress, **settings
        As in `online`.

    Returns
    -------
    DataFrame
        The rows that `online` gives for each stream, stream after stream. They are stored as the
        same units of work, so either function reads what the other one finished.

    Raises
    ------
    ValueError
        For another number of settings or held-out sets than of streams, another kind of network,
        and settings out of range.
    """
    n = len(several_streams)
    if heldout is None or isinstance(heldout, streams.Stream):
        heldout = [heldout] * n
    each = [{}] * n if each is None else each
    if len(each) != n or len(heldout) != n:
        raise ValueError(
            f"{n} streams need as many entries of each and of heldout, not {len(each)} and "
            f"{len(heldout)}"
        )
    work = [
        _Work(model, stream, held, evaluate_every, {**settings, **own})
        for stream, held, own in zip(several_streams, heldout, each, strict=True)
    ]
    todo = [one for one in work if not store.path(one.unit).exists()]
    if len(todo) > 1:
        run_streams = engine(model)[2]
        net = copy.deepcopy(model).to(best_device())
        results = run_streams(net, [one.arguments() for one in todo], progress=progress)
        for i, result in results:
            rows = partial(todo[i].rows, result)
            store.run(todo[i].unit, rows, protocol=todo[i].protocol)
    return pd.concat([one.run(model, store, progress) for one in work], ignore_index=True)


class _Work:
    """A unit of work: one stream, its held-out set and its settings."""

    def __init__(
        self,
        model: TrainableAtTest,
        stream: streams.Stream,
        heldout: streams.Stream | None,
        evaluate_every: int,
        settings: dict[str, Any],
    ) -> None:
        self.stream, self.heldout, self.evaluate_every = stream, heldout, evaluate_every
        self.settings = {"steps": 1, **settings}
        self.settings.setdefault("evaluate_at", [self.settings["steps"]])
        self.protocol = protocol_of(stream.dataset, PROTOCOL, stream.order)
        self.unit = {
            "experiment": "online",
            "method": f"online {engine(model)[0]}",
            **describe(model, stream.dataset),
            "stream": stream.name,
            "stream_fingerprint": stream.fingerprint(),
            "heldout_fingerprint": heldout and heldout.fingerprint(),
            "evaluate_every": evaluate_every if heldout else None,
            "seed": stream.seed,
            **self.settings,
        }

    def run(self, model: TrainableAtTest, store: Store, progress: bool) -> pd.DataFrame:
        """Return the rows that the store has, or adapt along this stream alone."""

        def adapt() -> pd.DataFrame:
            net = copy.deepcopy(model).to(best_device())
            adapted = engine(model)[1](net, **self.arguments(), online=True, progress=progress)
            return self.rows(adapted)

        return store.run(self.unit, adapt, protocol=self.protocol)

    def arguments(self) -> dict[str, Any]:
        """Return what the test-time training of the network takes after the network."""
        return {
            "images": self.stream.images(),
            "ids": torch.tensor(self.stream.rows()["id"].to_numpy()),
            "seed": self.stream.seed,
            "heldout": self.heldout and self.heldout.images(),
            "evaluate_every": self.evaluate_every,
            **self.settings,
        }

    def rows(self, result: ttt.TTTResult) -> pd.DataFrame:
        """Return the rows of the stream, then those of the held-out set."""
        rows = _stream_rows(self.stream.rows(), result, self.stream.dataset)
        if self.heldout is None:
            return rows
        return pd.concat([rows, _heldout_rows(self.heldout, result)])


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
