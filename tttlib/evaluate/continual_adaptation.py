"""Continual test-time adaptation along a stream, as result rows; killed runs go on."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, is_dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from tttlib import adapt, streams
from tttlib.data import ImageSet
from tttlib.evaluate.unit_rows import describe, protocol_of
from tttlib.results import Store, unit_key
from tttlib.runtime.devices import best_device

RESETS = ("never", "block")


class Adaptation(NamedTuple):
    """What a method did along a stream.

    rows         one per arrival: block, domain, severity, position, id, label, prediction, correct,
                 the dataset's clusters, method, preset and its changed constants
    diagnostics  means over a block's batches: block, domain, severity, name (of the diagnostic),
                 tensor (name of a parameter, of a layer for AutoLR's rates, or empty for what
                 the method has one number of), value
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
    given: Mapping[str, Any] | None = None,
    progress: bool = True,
    **constants: Any,
) -> Adaptation:
    """The answers of an adaptation method (`adapt.NAMES`) to a stream, and what it did meanwhile.

    reset      "never" or "block" (before every block of the stream)
    given      what the method needs that is no constant, for instance {"source": an ImageSet}
    constants  that replace the preset's, see the method's `Config`
    The unit of work is a piece of the stream of about 1,000 arrivals. The adapter's state after the
    last finished piece lies in <store>/states/ until the stream is done, so a killed run goes on
    where it was and gives the same answers. Predictions are those of the call that adapts, the
    protocol of CoTTA and PALM.
    Raises ValueError for an unknown method or `reset`, and constants that the method refuses.
    """
    if reset not in RESETS:
        raise ValueError(f"unknown reset {reset!r}; known are {', '.join(RESETS)}")
    given = dict(given or {})
    base = {
        "method": method,
        "answer": adapt.answer_of(method),
        "preset": preset,
        "reset": reset,
        **describe(model, stream.dataset),
        "stream": stream.name,
        "stream_fingerprint": stream.fingerprint(),
        "batch_size": stream.batch_size,
        "seed": stream.seed,
        **{name: _identity(value) for name, value in given.items()},
        "constants": {name: _plain(value) for name, value in constants.items()},
    }
    protocol = protocol_of(stream.dataset, PROTOCOL)
    pieces = list(_pieces(stream))
    units = [
        [{"experiment": name, **base, "piece": k} for name in ("adaptation", "diagnostics")]
        for k in range(len(pieces))
    ]
    run = _Run(model, stream, method, preset, {**given, **constants}, reset, store.folder, base)
    first = run.first_open(all(store.path(u).exists() for pair in units for u in pair), len(pieces))
    bar = tqdm(pieces[first:], desc=method, unit="piece", disable=not progress)
    for k, numbers in enumerate(bar, first):
        for unit, table in zip(units[k], run.piece(numbers), strict=True):
            _keep(store, unit, protocol, table)
        run.done(k + 1, len(pieces))
    parts = [[_keep(store, unit, protocol) for unit in pair] for pair in units]
    rows, diagnostics = (_joined(tables) for tables in zip(*parts, strict=True))
    return Adaptation(rows, diagnostics)


def _pieces(stream: streams.Stream) -> Iterator[list[int]]:
    """The numbers of the stream's batches, in pieces of at least ARRIVALS_PER_UNIT arrivals."""
    piece: list[int] = []
    for number in range(len(stream)):
        piece.append(number)
        rows = stream.span(piece)
        if rows.stop - rows.start >= ARRIVALS_PER_UNIT:
            yield piece
            piece = []
    if piece:
        yield piece


def _joined(tables: tuple[pd.DataFrame, ...]) -> pd.DataFrame:
    """All rows; tables without any are left out, unless none has some."""
    return pd.concat([t for t in tables if len(t)] or list(tables)[:1], ignore_index=True)


ARRIVALS_PER_UNIT = 1000
PROTOCOL = {
    "prediction": "in the call that adapts to the batch",
}


class _Run:
    """An adapter on its way along a stream."""

    def __init__(
        self,
        model: nn.Module,
        stream: streams.Stream,
        method: str,
        preset: str | None,
        settings: Mapping[str, Any],
        reset: str,
        folder: Path,
        base: Mapping[str, Any],
    ) -> None:
        self._make = lambda: adapt.create(
            method, model.to(best_device()), preset=preset, **settings
        )
        self._stream, self._reset, self._labels = stream, reset, stream.rows()
        self._state = folder / "states" / f"{unit_key(base)}.pt"
        self._adapter: adapt.Adapter | None = None

    def first_open(self, finished: bool, pieces: int) -> int:
        """The piece to go on with; 0 without a state, `pieces` when all are there."""
        if finished:
            return pieces
        self._adapter = self._make()
        if not self._state.exists():
            return 0
        saved = torch.load(self._state, weights_only=True)
        self._adapter.load_state_dict(saved["adapter"])
        return int(saved["pieces"])

    def piece(self, numbers: list[int]) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Adapt to the batches `numbers`; their rows and diagnostics."""
        parts = [self._block(list(part)) for _, part in groupby(numbers, self._stream.block_of)]
        rows, diagnostics = (_joined(tables) for tables in zip(*parts, strict=True))
        return rows, diagnostics

    def _block(self, numbers: list[int]) -> tuple[pd.DataFrame, pd.DataFrame]:
        adapter, stream = self._adapter, self._stream
        assert adapter is not None
        begins = numbers[0] == 0 or stream.block_of(numbers[0] - 1) != stream.block_of(numbers[0])
        if self._reset == "block" and begins:
            adapter.reset()
        predictions, found = [], []
        for number in numbers:
            predictions.append(adapter(stream.batch(number).images).argmax(1))
            found.append(dict(adapter.diagnostics))
        rows = self._labels.iloc[stream.span(numbers)]
        rows = rows.assign(prediction=torch.cat(predictions).cpu().numpy())
        rows = rows.assign(correct=rows["prediction"] == rows["label"])
        means = list(_means(found, adapter.layers or adapter.trained))
        table = pd.DataFrame(means, columns=["name", "tensor", "value"])
        where = {name: _common(rows[name]) for name in ("block", "domain", "severity")}
        return rows, table.astype({"value": "float64"}).assign(**where)

    def done(self, piece: int, pieces: int) -> None:
        """Keep the state after `piece` pieces; nothing once the stream has ended."""
        assert self._adapter is not None
        if piece == pieces:
            self._state.unlink(missing_ok=True)
            return
        self._state.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._state.with_name(f".{self._state.name}.{os.getpid()}.tmp")
        torch.save({"pieces": piece, "adapter": self._adapter.state_dict()}, temporary)
        os.replace(temporary, self._state)


def _means(found: list[dict[str, Tensor]], parts: tuple[str, ...]) -> Iterator[tuple]:
    """Name, tensor (or layer) and mean over batches of every diagnostic."""
    for name in [name for name in found[0] if all(name in one for one in found)]:
        mean = torch.stack([one[name].double() for one in found]).mean(0).cpu()
        if mean.ndim == 0:
            yield name, "", mean.item()
        elif len(mean) == len(parts):
            yield from (
                (name, tensor, value) for tensor, value in zip(parts, mean.tolist(), strict=True)
            )


def _common(values: pd.Series) -> Any:
    """The one value of a block, or None when it has several."""
    return values.iloc[0] if values.nunique() == 1 else None


def _plain(value: Any) -> Any:
    """A constant as JSON: dataclasses by their fields."""
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


def _identity(value: Any) -> Any:
    """What identifies an argument that is no constant."""
    if isinstance(value, ImageSet):
        return f"{value.name} {value.split} {value.fingerprint} {len(value)}"
    raise ValueError(f"given holds a {type(value).__name__}; only image sets can be identified")


def _keep(
    store: Store, unit: dict[str, Any], protocol: dict[str, str], table: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Write the rows of a unit, or read those that are there."""

    def rows() -> pd.DataFrame:
        assert table is not None, "a unit that was written is gone"
        return table

    return store.run(unit, rows, protocol=protocol)
