"""Continual test-time adaptation along a stream, as result rows; killed runs go on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from tttlib import adapt, streams
from tttlib.data import ImageSet
from tttlib.evaluate.pace import Learner, Pace
from tttlib.evaluate.unit_rows import describe, judged, protocol_of
from tttlib.results import Store, unit_key
from tttlib.runtime.devices import best_device
from tttlib.runtime.files import atomic_write

log = logging.getLogger(__name__)

RESETS = ("never", "block")
ARRIVALS_PER_UNIT = 1000
PROTOCOL = {
    "prediction": "in the call that adapts to the batch",
}


class Adaptation(NamedTuple):
    """What a method did along a stream.

    Attributes
    ----------
    rows
        One row per arrival: block, domain, severity, position, id, label, prediction, correct,
        confidence, nll, brier (see `unit_rows.judged`; rows of earlier versions lack these three),
        the clusters of the dataset, method, preset and its changed constants.
    diagnostics
        Means over those batches of a block that the method learned from: block, domain, severity,
        name (of the diagnostic), tensor (the name of a parameter, or of a layer for the rates of
        AutoLR; empty if the method has one number) and value.
    """

    rows: pd.DataFrame
    diagnostics: pd.DataFrame


def adaptation(
    model: nn.Module,
    stream: streams.Stream,
    method: str,
    *,
    store: Store,
    preset: str | None = None,
    reset: str = "never",
    adapt_every: int = 1,
    window: int = 1,
    given: Mapping[str, Any] | None = None,
    progress: bool = True,
    **constants: Any,
) -> Adaptation:
    """Adapt a network along a stream and return its answers and what the method did.

    Predictions are those of the call that adapts, as in the protocol of CoTTA and PALM. The unit of
    work is a piece of the stream of about 1,000 arrivals. The state of the adapter after the last
    finished piece lies in <store>/states/ until the stream is done, so a killed run goes on where
    it was and gives the same answers. A state that cannot be used is logged, and the stream starts
    again.

    Parameters
    ----------
    model
        The source network, which is left as it is.
    stream
        What arrives in which order.
    method
        One of `adapt.NAMES`.
    store
        Keeps the rows.
    preset
        As in `adapt.create`.
    reset
        "never", or "block" to return to the source before every block of the stream.
    adapt_every
        Adapt to the first of so many batches, and answer the others by the last state: error at
        constant speed, see `pace.Pace` and `constant_speed`.
    window
        With a stream of single images: how many of the last ones the method sees at a time, see
        `pace.Pace`.
    given
        What the method needs besides constants, for instance {"source": an ImageSet}.
    progress
        Whether to show a progress bar.
    **constants
        Constants that replace those of the preset; see the `Config` of the method.

    Raises
    ------
    ValueError
        If the method or `reset` is unknown, the method refuses a constant, or `adapt_every` or
        `window` has no meaning.
    """
    if reset not in RESETS:
        raise ValueError(f"unknown reset {reset!r}; known are {', '.join(RESETS)}")
    pace = Pace(adapt_every, window)
    pace.check(stream)
    given = dict(given or {})
    base = {
        "method": method,
        "answer": adapt.answer_of(method),
        "preset": preset,
        "reset": reset,
        **pace.identity(),
        **describe(model, stream.dataset),
        "stream": stream.name,
        "stream_fingerprint": stream.fingerprint(),
        "batch_size": stream.batch_size,
        "seed": stream.seed,
        **{name: _identity(value) for name, value in given.items()},
        "constants": {name: _as_json(value) for name, value in constants.items()},
    }
    protocol = protocol_of(stream.dataset, pace.protocol(PROTOCOL), stream.order)
    pieces = list(_pieces(stream))
    units = [
        [{"experiment": name, **base, "piece": k} for name in ("adaptation", "diagnostics")]
        for k in range(len(pieces))
    ]

    def create() -> adapt.Adapter:
        net = model.to(best_device())
        return adapt.create(method, net, preset=preset, **given, **constants)

    finished = [all(store.path(unit).exists() for unit in pair) for pair in units]
    state = store.folder / "states" / f"{unit_key(base)}.pt"
    if not all(finished):
        adapter, first = _resumed(create, state, finished)
        learner, arrivals = Learner(adapter, stream, pace), stream.rows()
        if reset == "block" and first < len(pieces):
            learner.since = _begin(stream, pieces[first][0])
        bar = tqdm(pieces[first:], desc=method, unit="piece", disable=not progress)
        for k, numbers in enumerate(bar, first):
            tables = _piece(learner, arrivals, reset, numbers)
            for unit, table in zip(units[k], tables, strict=True):
                store.run(unit, partial(pd.DataFrame, table), protocol=protocol)
            _keep_state(state, adapter, k + 1)
    state.unlink(missing_ok=True)
    parts = [[store.run(unit, _missing, protocol=protocol) for unit in pair] for pair in units]
    rows, diagnostics = (_joined(tables) for tables in zip(*parts, strict=True))
    return Adaptation(rows, diagnostics)


def _missing() -> pd.DataFrame:
    raise FileNotFoundError("a finished unit vanished while the run was going on; run it again")


def _pieces(stream: streams.Stream) -> Iterator[list[int]]:
    """Yield the numbers of the batches, in pieces of at least ARRIVALS_PER_UNIT arrivals."""
    piece: list[int] = []
    for number in range(len(stream)):
        piece.append(number)
        rows = stream.span(piece)
        if rows.stop - rows.start >= ARRIVALS_PER_UNIT:
            yield piece
            piece = []
    if piece:
        yield piece


def _resumed(
    create: Callable[[], adapt.Adapter], state: Path, finished: Sequence[bool]
) -> tuple[adapt.Adapter, int]:
    """Return the adapter and the number of the piece to go on with; 0 without a usable state."""
    adapter = create()
    if not state.exists():
        return adapter, 0
    try:
        saved = torch.load(state, weights_only=True)
        pieces = int(saved["pieces"])
        if not all(finished[:pieces]):
            raise ValueError("rows of earlier pieces are gone")
        adapter.load_state_dict(saved["adapter"])
    except Exception as error:  # whatever is wrong with it: it can be made again
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        log.warning("%s cannot be used (%s), so the stream starts again", state, reason)
        return create(), 0  # the first adapter may be half loaded
    return adapter, pieces


def _keep_state(state: Path, adapter: adapt.Adapter, pieces: int) -> None:
    state.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(state) as path:
        torch.save({"pieces": pieces, "adapter": adapter.state_dict()}, path)


def _piece(
    learner: Learner, arrivals: pd.DataFrame, reset: str, numbers: Sequence[int]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Adapt to the batches `numbers` and return their rows and diagnostics."""
    tables = []
    adapter, stream = learner.adapter, learner.stream
    for _, group in groupby(numbers, stream.block_of):
        batches = list(group)
        if reset == "block" and _begin(stream, batches[0]) == batches[0]:
            learner.reset(batches[0])
        logits, diagnostics = [], []
        for number in batches:
            answers, learned = learner.answer(number)
            logits.append(answers)
            diagnostics += [dict(adapter.diagnostics)] * learned
        judge = partial(judged, dataset=stream.dataset, certainty=True)
        rows = judge(arrivals.iloc[stream.span(batches)], torch.cat(logits))
        means = list(_means(diagnostics, adapter.layers or adapter.trained))
        table = pd.DataFrame(means, columns=["name", "tensor", "value"])
        place = {name: _common(rows[name]) for name in ("block", "domain", "severity")}
        tables.append((rows, table.astype({"value": "float64"}).assign(**place)))
    joined_rows, joined_diagnostics = (_joined(parts) for parts in zip(*tables, strict=True))
    return joined_rows, joined_diagnostics


def _begin(stream: streams.Stream, number: int) -> int:
    """Return the number of the first batch of the block that batch `number` belongs to."""
    block = stream.block_of(number)
    while number and stream.block_of(number - 1) == block:
        number -= 1
    return number


def _joined(tables: tuple[pd.DataFrame, ...]) -> pd.DataFrame:
    """Join tables without the empty ones, of which the first is returned if all are empty."""
    return pd.concat([t for t in tables if len(t)] or list(tables)[:1], ignore_index=True)


def _means(diagnostics: list[dict[str, Tensor]], parts: tuple[str, ...]) -> Iterator[tuple]:
    """Yield name, tensor (or layer) and mean over the batches of every diagnostic."""
    first = diagnostics[0] if diagnostics else {}
    for name in [name for name in first if all(name in batch for batch in diagnostics)]:
        if first[name].shape not in ((), (len(parts),)):
            continue  # of each image: batches need not be equally large
        mean = torch.stack([batch[name].double() for batch in diagnostics]).mean(0).cpu()
        if mean.ndim == 0:
            yield name, "", mean.item()
        else:
            values = zip(parts, mean.tolist(), strict=True)
            yield from ((name, part, value) for part, value in values)


def _common(values: pd.Series) -> Any:
    """Return the one value of a block, or None if it has several."""
    return values.iloc[0] if values.nunique() == 1 else None


def _as_json(value: Any) -> Any:
    """Return a constant as JSON, dataclasses by their fields."""
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


def _identity(value: Any) -> Any:
    """Return what identifies an argument that is no constant."""
    if isinstance(value, ImageSet):
        return f"{value.name} {value.split} {value.fingerprint} {len(value)}"
    raise ValueError(f"given holds a {type(value).__name__}; only image sets can be identified")
